"""Read a model file back: what is in it, and what it is entitled to be called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.export.delegate import probe_delegate
from mbn_deploy.export.inspect_onnx import report_onnx
from mbn_deploy.export.inspect_tflite import report_tflite
from mbn_deploy.export.report import FileReport

_TFLITE_IDENTIFIER = b"TFL3"
_LIMIT = 2**31  # of both formats: flatbuffer offsets and protobuf messages end there


def inspect_file(path: str | Path, *, delegate: bool = False) -> FileReport:
    """The report on a .tflite or .onnx file, told apart by content.

    With `delegate`, a .tflite file is also opened by the interpreter, in a process of its own, to see
    how XNNPACK divides it. Raises `InputError` for what cannot be read, is damaged or is neither.
    """
    path = Path(path)
    data = _read(path)
    if data[4:8] != _TFLITE_IDENTIFIER and path.suffix.lower() != ".tflite":
        return report_onnx(data, str(path))
    report = report_tflite(data, str(path))
    return replace(report, delegate=probe_delegate(path)) if delegate else report


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size >= _LIMIT:
            raise InputError(f"{path}: larger than a model file can be (2 GiB)")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
