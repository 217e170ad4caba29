"""Choose which model file of a bundle runs on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import FileFormat, ModelFile
from mbn_deploy.runtime.backends import BACKENDS, choose_backend
from mbn_deploy.runtime.backends.modules import MODULES, installed

# The precision that runs by default: the fastest and smallest first. Whether int8 is accurate enough was decided by
# the accuracy guard at export. Precisions that are not listed come last.
PREFERENCE = ("int8", "int8-mixed", "float16", "dynamic", "float32", "int16x8")


def preference(precision: str) -> int:
    """Return the rank of a precision in `PREFERENCE`; the lowest one runs by default."""
    return PREFERENCE.index(precision) if precision in PREFERENCE else len(PREFERENCE)


def choose_file(files: Sequence[ModelFile], precision: str | None, backend: str | None, where: str) -> ModelFile:
    """Return the file to run: among `runnable_files` the first by `PREFERENCE`, .tflite before .onnx.

    Raises the errors of `runnable_files`.
    """
    runnable, _ = runnable_files(files, precision, backend, where)
    return min(runnable, key=lambda entry: (preference(entry.precision), list(BACKENDS).index(entry.format)))


def runnable_files(
    files: Sequence[ModelFile], precision: str | None, backend: str | None, where: str
) -> tuple[list[ModelFile], list[ModelFile]]:
    """Split the files of the requested precision into those that run here and those whose interpreter is missing.

    With a `backend`, only the files that it runs are considered. `where` names the bundle in errors.

    Raises:
        InputError: the bundle has no model files.
        UsageError: no such precision or backend, or none of the files fits both.
        MissingExtraError: no interpreter for any of the files is installed; carries the install line.
    """
    if not files:
        raise InputError(f"{where}: the bundle has no model files")
    if backend is not None and backend not in MODULES:
        raise UnknownNameError("backend", backend, MODULES)
    requested = [entry for entry in files if precision in (None, entry.precision)]
    if not requested:
        raise UnknownNameError("precision", str(precision), sorted({entry.precision for entry in files}))
    runnable = [entry for entry in requested if _is_runnable(entry.format, backend)]
    if runnable:
        return runnable, [entry for entry in requested if entry not in runnable and backend is None]
    if backend is None:
        choose_backend(requested[0].format)  # raises the error that says what to install
    available = ", ".join(sorted({f"{entry.format}/{entry.precision}" for entry in files}))
    wanted = "" if precision is None else f" with precision {precision!r}"
    raise UsageError(f"{where}: backend {backend!r} can run none of its files{wanted}; the bundle has {available}")


def _is_runnable(file_format: FileFormat, backend: str | None) -> bool:
    """Return whether `backend` runs the format; without one, whether any installed interpreter does."""
    names = BACKENDS[file_format]
    return any(installed(name) for name in names) if backend is None else backend in names
