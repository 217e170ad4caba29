"""Open a model file with an interpreter, behind one small protocol.

An interpreter is imported when the first file is opened with it.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from mbn_deploy.arguments import MOST_THREADS, check_count
from mbn_deploy.errors import MissingExtraError, UnknownNameError, UsageError
from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.backends.modules import MODULES, PACKAGES, installed, load_interpreter
from mbn_deploy.runtime.system.device import usable_processors

# Which interpreters run a format, best first.
BACKENDS: dict[FileFormat, tuple[str, ...]] = {"tflite": ("litert", "tflite"), "onnx": ("onnx",)}
# More threads than this gain nothing on one small image: its layers are too short to be shared.
MAX_DEFAULT_THREADS = 4


def default_threads() -> int:
    """Return the number of processors that this process may use, at most 4; interpreters' own default is one thread."""
    return min(MAX_DEFAULT_THREADS, usable_processors())


def choose_backend(file_format: FileFormat, name: str | None = None) -> str:
    """Return the backend to open a file with: the one of that name, by default the first that is installed.

    Raises `UnknownNameError` for an unknown name, `UsageError` for a backend that cannot run the format,
    `MissingExtraError` if no backend for the format is installed.
    """
    if name is not None:
        if name not in MODULES:
            raise UnknownNameError("backend", name, MODULES)
        if name not in BACKENDS[file_format]:
            raise UsageError(f"backend {name!r} cannot run .{file_format}; {' or '.join(BACKENDS[file_format])} can")
        return name
    available = next((known for known in BACKENDS[file_format] if installed(known)), None)
    if available is None:
        first = BACKENDS[file_format][0]
        raise MissingExtraError(PACKAGES[first], first, f"to run .{file_format} files")
    return available


def open_backend(
    source: bytes | str | PathLike[str],
    file_format: FileFormat,
    *,
    name: str | None = None,
    threads: int | None = None,
    where: str | None = None,
    vouched: bool = False,
) -> Backend:
    """Open a model file, given as bytes or as a path.

    Args:
        source: the file's bytes or its path.
        file_format: `tflite` or `onnx`.
        name: `litert`, `tflite` or `onnx`; by default the first that is installed.
        threads: the number of threads for one inference; by default `default_threads()`.
        where: the file's name in errors, if bytes are given.
        vouched: a manifest has the hash of these bytes, or they were opened before, so that `check_model` is left out.

    Raises:
        InputError: the file is damaged, the interpreter does not accept it, or it is not one image to one row of
            scores.
        UsageError: the name is unknown, the backend cannot run the format, or `threads` is below 1.
        MissingExtraError: no backend for the format is installed.
    """
    chosen = choose_backend(file_format, name)
    count = default_threads() if threads is None else threads
    check_count("threads", count, MOST_THREADS)
    data, title = _contents(source, where or f"{file_format} model")
    if not vouched:
        check_model(data, file_format, title)
    if file_format == "onnx":
        from mbn_deploy.runtime.backends.onnx import OnnxBackend

        return OnnxBackend(data, count, title)
    from mbn_deploy.runtime.backends.interpreter import InterpreterBackend

    return InterpreterBackend(load_interpreter(chosen).Interpreter, chosen, data, count, title)


def check_model(data: bytes, file_format: FileFormat, where: str) -> None:
    """Refuse a file that could crash an interpreter; takes some milliseconds.

    Interpreters are C++ and end the process on some damaged files. Raises `InputError` that names `where`.
    """
    if file_format == "tflite":
        from mbn_deploy.runtime.untrusted.tflite_check import check_tflite

        check_tflite(data, where)
        return
    from mbn_deploy.runtime.untrusted.onnx_check import check_onnx

    check_onnx(data, where)


def _contents(source: bytes | str | PathLike[str], where: str) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, where
    from mbn_deploy.runtime.system.files import read_file

    return read_file(Path(source)), str(source)
