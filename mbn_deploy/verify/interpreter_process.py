"""Runs exported files in a process of its own, since an interpreter may crash on a file instead of refusing it.

XNNPACK, for one, was seen to free memory twice and to abort. The export must survive that and name the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.errors import MbnError, UsageError, VerificationError
from mbn_deploy.export.inspect import inspect_data
from mbn_deploy.manifest import FileFormat, Layout, Preprocess, TensorInfo, preprocess_from_dict
from mbn_deploy.runtime.backends import choose_backend, open_backend
from mbn_deploy.runtime.system.child import ChildError, ChildProcess
from mbn_deploy.text import shorten
from mbn_deploy.verify.runner import FileRunner

T = TypeVar("T")


class NoProcessError(UsageError):
    """This system cannot start a child process: an emulator, a sandbox, an embedding program."""


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
    """The interpreter's description of a file, and the file's raw outputs (N, classes) on the pixels it was run on."""

    backend: str
    kernels: str
    input: TensorInfo
    output: TensorInfo
    outputs: Array


class InterpreterProcess:
    """A child process that runs files which no interpreter has tried yet; a context, which ends it.

    It starts with the first call, and again after a file has crashed it.
    """

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    def __enter__(self) -> InterpreterProcess:  # noqa: PYI034 (typing.Self came with Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.close()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the child process, see `ChildProcess.call`.

        Raises:
            NoProcessError: no child process can be started.
            ChildError: the process ended without an answer.
        """
        if self._child is None or self._child.closed:
            try:
                self._child = ChildProcess()
            except ChildError as error:
                raise NoProcessError(f"the process that is to run the exported files {error}") from error
        return self._child.call(function, *arguments)


def run_files(
    files: Mapping[str, FileToRun], pixels: Pixels, process: InterpreterProcess | None = None
) -> dict[str, RunResult]:
    """Load every file and run it on `pixels`, uint8 (N, H, W, C), in one child process; by default in a new one.

    Raises:
        UsageError: no child process can be started.
        VerificationError: names the file that is refused, crashes the interpreter, answers with values that are
            not finite, or claims to be int8 and computes in floats.
        MissingExtraError: no interpreter for a file's format is installed.
    """
    for file in files.values():
        choose_backend(file.format)  # a missing package is not the file's fault
    if process is None:
        with InterpreterProcess() as own:
            return run_files(files, pixels, own)
    return {name: _run_in(process, name, file, pixels) for name, file in files.items()}


def _run_in(process: InterpreterProcess, name: str, file: FileToRun, pixels: Pixels) -> RunResult:
    try:
        fields = process.call(run_file, name, asdict(file), pixels)
    except ChildError as error:
        raise VerificationError(f"{name} was made, but the interpreter {error}") from error
    return RunResult(**fields | {end: TensorInfo(**fields[end]) for end in ("input", "output")})


def run_file(name: str, file: dict[str, Any], pixels: Pixels) -> dict[str, Any]:
    """Run a file, given as the fields of a `FileToRun`, in this process, the child.

    Return the fields of its `RunResult`, or raise `VerificationError`.
    """
    try:
        backend = open_backend(file["data"], file["format"], where=name)
        outputs = FileRunner(backend, preprocess_from_dict(file["preprocess"]), file["layout"]).raw(pixels)
    except MbnError as error:
        raise VerificationError(f"{name} was made, but it cannot be run: {error}") from error
    if file["integer"]:
        _check_integer(name, file["data"])
    if not np.isfinite(outputs).all():
        raise VerificationError(f"{name} was made, but it answers with values that are not finite")
    return {
        "backend": backend.name,
        "kernels": backend.kernels,
        "input": asdict(backend.input),
        "output": asdict(backend.output),
        "outputs": outputs,
    }


def _check_integer(name: str, data: bytes) -> None:
    """Raise `VerificationError` that names the ops which compute in floats, if there are any."""
    report = inspect_data(data, name)
    if not report.all_integer:
        floats = [f"{op.kind} {op.name!r}" for op in report.ops if not op.integer]
        raise VerificationError(f"{name} was made, but it computes in floats: {shorten(floats)}")
