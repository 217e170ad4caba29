"""Runs exported files in a process of its own, since an interpreter may crash on a file instead of refusing it.

XNNPACK, for one, was seen to free memory twice and to abort. The export must survive that and name the file.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.errors import InputError, MbnError, VerificationError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.manifest import FileFormat, Layout, Preprocess, TensorInfo, preprocess_from_dict
from mbn_deploy.runtime.backends import choose_backend, open_backend
from mbn_deploy.runtime.system.temporary import scratch
from mbn_deploy.text import shorten
from mbn_deploy.verify.runner import FileRunner

_PLAN, _PIXELS, _REPORT = "plan.json", "pixels.npy", "report.jsonl"
# `-c` and not `-m`: modules must not be looked for in the user's current folder.
CHILD = "import sys; sys.path[:] = sys.argv[1:]; from mbn_deploy.verify.interpreter_process import main; main()"
# Modules that the child will need. Importing them takes longer than running the files.
_MODULES = ("ai_edge_litert.interpreter", "onnxruntime", "onnx")


@dataclass(frozen=True, eq=False)
class FileToRun:
    """An exported file: its bytes, how its input is prepared, and whether it claims to be int8 throughout."""

    data: bytes
    format: FileFormat
    preprocess: Preprocess
    layout: Layout
    integer: bool


@dataclass(frozen=True, eq=False)
class RunResult:
    """How the interpreter describes a file, and the file's raw outputs (N, classes) on the pixels it was run on."""

    backend: str
    kernels: str
    input: TensorInfo
    output: TensorInfo
    outputs: Array


class InterpreterProcess:
    """A child process that runs files, once; a context manager.

    Enter it early: the child imports the interpreters while the parent is still writing the files.
    """

    def __enter__(self) -> InterpreterProcess:  # noqa: PYI034 - typing.Self came with Python 3.11
        command = [sys.executable, "-c", CHILD, *sys.path]
        self._child = subprocess.Popen(  # noqa: S603 (no shell, our own command)
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
        with self._child:  # closes the pipes and waits
            pass

    def run_files(self, files: Mapping[str, FileToRun], pixels: Pixels) -> dict[str, RunResult]:
        """Load every file and run it on `pixels`, uint8 (N, H, W, C). May be called once.

        Raises:
            VerificationError: names the file that is refused, crashes the interpreter, answers with values that are
                not finite, or claims to be int8 and computes in floats.
            InputError: the files cannot be written, as on a full disk.
            MissingExtraError: no interpreter for a file's format is installed.
        """
        for file in files.values():
            choose_backend(file.format)  # a missing package is not the file's fault
        with scratch("run") as folder:
            try:
                _hand_over(folder, files, pixels)
            except OSError as error:
                why = error.strerror or error
                raise InputError(f"{folder}: files cannot be written for a trial run: {why}") from error
            _, stderr = self._child.communicate(os.fsencode(folder) + b"\n")
            return _results(folder, list(files), self._child.returncode, stderr)


def run_files(files: Mapping[str, FileToRun], pixels: Pixels) -> dict[str, RunResult]:
    """Run files in a new process; see `InterpreterProcess.run_files`."""
    with InterpreterProcess() as process:
        return process.run_files(files, pixels)


def _hand_over(folder: Path, files: Mapping[str, FileToRun], pixels: Pixels) -> None:
    """Write the files, the pixels and the plan that the child reads."""
    buffer = io.BytesIO()  # np.save on a full disk would report only how many items were written
    np.save(buffer, pixels)
    (folder / _PIXELS).write_bytes(buffer.getvalue())
    plan = []
    for name, file in files.items():
        (folder / name).write_bytes(file.data)
        plan.append(
            {
                "name": name,
                "format": file.format,
                "preprocess": asdict(file.preprocess),
                "layout": file.layout,
                "integer": file.integer,
            }
        )
    (folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")


def _results(folder: Path, names: list[str], code: int, stderr: bytes) -> dict[str, RunResult]:
    report = folder / _REPORT
    lines = report.read_text("utf-8").splitlines() if report.exists() else []
    entries = {entry["name"]: entry for entry in map(json.loads, lines)}
    for name in names:
        if "error" in entries.get(name, {}):
            raise VerificationError(f"{name} was made, but {entries[name]['error']}")
        if name not in entries:
            raise VerificationError(f"{name} was made, but {_crash(code, stderr)}")
    return {
        name: RunResult(
            backend=entry["backend"],
            kernels=entry["kernels"],
            input=TensorInfo(**entry["input"] | {"shape": tuple(entry["input"]["shape"])}),
            output=TensorInfo(**entry["output"] | {"shape": tuple(entry["output"]["shape"])}),
            outputs=np.load(folder / f"{name}.npy", allow_pickle=False),
        )
        for name, entry in entries.items()
    }


def _crash(code: int, stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    return f"the interpreter crashed on it ({how}){': ' + lines[-1] if lines else ''}"


def main() -> None:
    """Run as the child: read a folder's name from stdin, then report on each file in it, one line of JSON a file."""
    for module in _MODULES:
        with suppress(ImportError):
            import_module(module)
    path = os.fsdecode(sys.stdin.buffer.readline().rstrip(b"\n"))
    if not path:
        return  # the parent gave up
    folder = Path(path)
    pixels = np.load(folder / _PIXELS, allow_pickle=False)
    with (folder / _REPORT).open("w", encoding="utf-8") as report:
        for entry in json.loads((folder / _PLAN).read_text("utf-8")):
            report.write(json.dumps(run_file(folder, entry, pixels)) + "\n")
            report.flush()  # the next file may crash this process
            os.fsync(report.fileno())


def run_file(folder: Path, entry: dict[str, Any], pixels: Pixels) -> dict[str, Any]:
    """Run one file of the plan in the child. Return its entry for the report; outputs are saved beside the file."""
    name, path = entry["name"], folder / entry["name"]
    try:
        backend = open_backend(path, entry["format"], where=name)
        outputs = FileRunner(backend, preprocess_from_dict(entry["preprocess"]), entry["layout"]).raw(pixels)
    except MbnError as error:
        return {"name": name, "error": f"it cannot be run: {error}"}
    if entry["integer"] and not inspect_file(path).all_integer:
        return {"name": name, "error": f"it computes in floats: {shorten(_float_ops(path))}"}
    if not np.isfinite(outputs).all():
        return {"name": name, "error": "it answers with values that are not finite"}
    np.save(folder / f"{name}.npy", outputs)
    return {
        "name": name,
        "backend": backend.name,
        "kernels": backend.kernels,
        "input": asdict(backend.input),
        "output": asdict(backend.output),
    }


def _float_ops(path: Path) -> list[str]:
    return [f"{op.kind} {op.name!r}" for op in inspect_file(path).ops if not op.integer]
