"""Every made file is opened with the default interpreter and run before it counts as exported.

In a process of its own: interpreters answer some files not with an error but with an abort (XNNPACK
has been seen to free memory twice), which must not take the export with it.
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
import numpy.typing as npt

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError, MbnError, VerificationError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.manifest import FileFormat, Layout, Preprocess, TensorInfo, preprocess_from_dict
from mbn_deploy.runtime.backends import choose_backend, open_backend
from mbn_deploy.runtime.system.temporary import scratch
from mbn_deploy.text import shorten
from mbn_deploy.verify.runner import FileRunner

_PLAN, _PIXELS, _REPORT = "plan.json", "pixels.npy", "report.jsonl"
# `-c` and not `-m`: the folder that the user stands in must not become a place that modules come from.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from mbn_deploy.verify.trial import main; main()"
# What the child will need. To load it takes longer than to try the files.
_MODULES = ("ai_edge_litert.interpreter", "onnxruntime", "onnx")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A file that was made: its bytes and how it wants its pixels."""

    data: bytes
    format: FileFormat
    preprocess: Preprocess
    layout: Layout
    integer: bool  # it claims to be int8 throughout


@dataclass(frozen=True, eq=False)
class Trial:
    """What the interpreter says of a file, and its raw outputs (N, classes) on the pixels it was tried with."""

    backend: str
    kernels: str
    input: TensorInfo
    output: TensorInfo
    outputs: npt.NDArray[Any]


class Tester:
    """The child process, as a context. Made early, it loads the interpreters while the files are still being made."""

    def __enter__(self) -> Tester:  # noqa: PYI034 - typing.Self came with Python 3.11
        command = [sys.executable, "-c", _CHILD, *sys.path]
        self._child = subprocess.Popen(  # noqa: S603 (no shell, our own command)
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
        with self._child:  # closes the pipes and waits
            pass

    def try_files(self, files: Mapping[str, Candidate], pixels: Pixels) -> dict[str, Trial]:
        """Open every file by name and run it on `pixels`, uint8 (N, H, W, C); once only.

        Raises `VerificationError` that names the file which is refused, crashes the interpreter, answers
        with values that are not finite, or calls itself int8 and is not; `InputError` for a full disk.
        """
        for candidate in files.values():
            choose_backend(candidate.format)  # a missing package is not the file's fault
        with scratch("trial") as folder:
            try:
                _hand_over(folder, files, pixels)
            except OSError as error:
                why = error.strerror or error
                raise InputError(f"{folder}: files cannot be written for a trial run: {why}") from error
            _, said = self._child.communicate(os.fsencode(folder) + b"\n")
            return _results(folder, list(files), self._child.returncode, said)


def try_files(files: Mapping[str, Candidate], pixels: Pixels) -> dict[str, Trial]:
    """`Tester.try_files` with a child of its own."""
    with Tester() as tester:
        return tester.try_files(files, pixels)


def _hand_over(folder: Path, files: Mapping[str, Candidate], pixels: Pixels) -> None:
    saved = io.BytesIO()  # numpy says of a full disk only how many items were written
    np.save(saved, pixels)
    (folder / _PIXELS).write_bytes(saved.getvalue())
    plan = []
    for name, candidate in files.items():
        (folder / name).write_bytes(candidate.data)
        plan.append(
            {
                "name": name,
                "format": candidate.format,
                "preprocess": asdict(candidate.preprocess),
                "layout": candidate.layout,
                "integer": candidate.integer,
            }
        )
    (folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")


def _results(folder: Path, names: list[str], code: int, said: bytes) -> dict[str, Trial]:
    report = folder / _REPORT
    entries = [json.loads(line) for line in report.read_text("utf-8").splitlines()] if report.exists() else []
    found = {entry["name"]: entry for entry in entries}
    for name in names:
        if "error" in found.get(name, {}):
            raise VerificationError(f"{name} was made, but {found[name]['error']}")
        if name not in found:
            raise VerificationError(f"{name} was made, but {_crash(code, said)}")
    return {
        name: Trial(
            entry["backend"],
            entry["kernels"],
            TensorInfo(**entry["input"] | {"shape": tuple(entry["input"]["shape"])}),
            TensorInfo(**entry["output"] | {"shape": tuple(entry["output"]["shape"])}),
            np.load(folder / f"{name}.npy", allow_pickle=False),
        )
        for name, entry in found.items()
    }


def _crash(code: int, said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    return f"the interpreter crashed on it ({how}){': ' + lines[-1] if lines else ''}"


def main() -> None:
    """The child: a folder's name comes from the parent, one line of the report a file goes there when it is done."""
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
            report.write(json.dumps(_tried(folder, entry, pixels)) + "\n")
            report.flush()
            os.fsync(report.fileno())


def _tried(folder: Path, entry: dict[str, Any], pixels: Pixels) -> dict[str, Any]:
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
