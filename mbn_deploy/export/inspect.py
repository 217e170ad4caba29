"""Reading a model file back: its contents, and the precision that it really has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.export.file_report import FileReport
from mbn_deploy.export.onnx.inspect import report_onnx, try_onnx
from mbn_deploy.export.tflite.delegate import probe_delegate
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.manifest import FileFormat
from mbn_deploy.models.hdf5 import SIGNATURE
from mbn_deploy.models.keras_zip import is_zip
from mbn_deploy.runtime.formats.external_data import with_external_data
from mbn_deploy.runtime.formats.outline import read_outline
from mbn_deploy.runtime.formats.purpose import other_purpose
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.text import shorten


def inspect_file(path: str | Path, *, delegate: bool = False) -> FileReport:
    """Report on a .tflite or .onnx file, told apart by their contents.

    With `delegate`, a child process also opens a .tflite file with the interpreter, to see how XNNPACK divides it.

    Raises:
        InputError: the file cannot be read, is damaged, or is neither.
        MissingExtraError: the export extra is not installed.
    """
    path = Path(path)
    if path.is_dir():
        models = sorted(str(file) for file in path.iterdir() if file.suffix in (".tflite", ".onnx"))
        raise InputError(
            f"{path}: a folder; one file is inspected at a time" + (f": {shorten(models)}" if models else "")
        )
    data = read_model(path)
    if _format(data, str(path)) == "onnx":
        try_onnx(data, str(path))
    report = inspect_data(data, str(path))
    return replace(report, delegate=probe_delegate(path)) if delegate and report.format == "tflite" else report


def read_model(path: Path) -> bytes:
    """Return a model file's bytes, an .onnx file with the constants that lie in other files of its folder."""
    data = read_file(path)
    return with_external_data(data, path) if path.suffix.lower() == ".onnx" else data


def inspect_data(data: bytes, where: str) -> FileReport:
    """Report on the bytes of a .tflite or .onnx file, which errors and the report call `where`."""
    report = report_onnx(data, where) if _format(data, where) == "onnx" else report_tflite(data, where)
    return replace(report, purpose=other_purpose(read_outline(data, report.format, where), report.format))


def _format(data: bytes, where: str) -> FileFormat:
    """Return what the bytes look like; raises `InputError` for a Keras file."""
    if is_zip(data[:16]) or data.startswith(SIGNATURE):
        raise InputError(
            f"{where}: no TFLite or ONNX file, but perhaps a Keras model; `mbn-deploy export` makes such files of it"
        )
    return "tflite" if data[4:8] == IDENTIFIER or Path(where).suffix.lower() == ".tflite" else "onnx"
