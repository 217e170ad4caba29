"""Every made file is opened with the default interpreter and run before it counts as exported.

In a process of its own: interpreters answer some files not with an error but with an abort (XNNPACK
has been seen to free memory twice), which must not take the export with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError, MbnError, VerificationError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.images import Pixels, some
from mbn_deploy.manifest import FileFormat, Layout, Preprocess, TensorInfo, preprocess_from_dict
from mbn_deploy.runtime.backends import choose_backend, open_backend
from mbn_deploy.verify.runner import FileRunner

_PLAN, _PIXELS, _REPORT = "plan.json", "pixels.npy", "report.jsonl"
# `-c` and not `-m`: the folder that the user stands in must not become a place that modules come from.
_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from mbn_deploy.verify.trial import main; main(sys.argv[1])"


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
    input: TensorInfo
    output: TensorInfo
    outputs: npt.NDArray[Any]


def try_files(files: Mapping[str, Candidate], pixels: Pixels) -> dict[str, Trial]:
    """Open every file by name and run it on `pixels`, uint8 (N, H, W, C).

    Raises `VerificationError` that names the file which is refused, crashes the interpreter, answers
    with values that are not finite, or calls itself int8 and is not; `InputError` for a full disk.
    """
    for candidate in files.values():
        choose_backend(candidate.format)  # a missing package is not the file's fault
    with tempfile.TemporaryDirectory(prefix="mbn-deploy-") as name:
        folder = Path(name)
        try:
            _hand_over(folder, files, pixels)
        except OSError as error:
            raise InputError(f"{folder}: files cannot be written for a trial run: {error.strerror}") from error
        command = [sys.executable, "-c", _CHILD, str(folder), *sys.path]
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 (no shell, our own command)
        return _results(folder, list(files), child)


def _hand_over(folder: Path, files: Mapping[str, Candidate], pixels: Pixels) -> None:
    np.save(folder / _PIXELS, pixels)
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


def _results(folder: Path, names: list[str], child: subprocess.CompletedProcess[bytes]) -> dict[str, Trial]:
    report = folder / _REPORT
    entries = [json.loads(line) for line in report.read_text("utf-8").splitlines()] if report.exists() else []
    found = {entry["name"]: entry for entry in entries}
    for name in names:
        if "error" in found.get(name, {}):
            raise VerificationError(f"{name} was made, but {found[name]['error']}")
        if name not in found:
            raise VerificationError(f"{name} was made, but {_crash(child)}")
    return {
        name: Trial(
            entry["backend"],
            TensorInfo(**entry["input"] | {"shape": tuple(entry["input"]["shape"])}),
            TensorInfo(**entry["output"] | {"shape": tuple(entry["output"]["shape"])}),
            np.load(folder / f"{name}.npy", allow_pickle=False),
        )
        for name, entry in found.items()
    }


def _crash(child: subprocess.CompletedProcess[bytes]) -> str:
    said = child.stderr.decode("utf-8", "replace").strip().splitlines()
    how = f"signal {signal.Signals(-child.returncode).name}" if child.returncode < 0 else f"exit {child.returncode}"
    return f"the interpreter crashed on it ({how}){': ' + said[-1] if said else ''}"


def main(path: str) -> None:
    """The child: one line of the report a file, written when the file is done."""
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
        return {"name": name, "error": f"it computes in floats: {some(_float_ops(path))}"}
    if not np.isfinite(outputs).all():
        return {"name": name, "error": "it answers with values that are not finite"}
    np.save(folder / f"{name}.npy", outputs)
    return {"name": name, "backend": backend.name, "input": asdict(backend.input), "output": asdict(backend.output)}


def _float_ops(path: Path) -> list[str]:
    return [f"{op.kind} {op.name!r}" for op in inspect_file(path).ops if not op.integer]
