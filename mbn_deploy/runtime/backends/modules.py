"""The interpreters' Python packages: which there are, and the one place that imports them.

Official builds of onnxruntime send names and hashes of models to their maker from version 1.29 on, and keep an
identifier in the home folder from the import on (onnxruntime#27379). The functions here switch that off before the
import, so every process, a child too, must import onnxruntime by them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mbn_deploy.errors import MissingExtraError

# By a backend's name: the module that has the interpreter, and the distribution that installs it.
MODULES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter", "onnx": "onnxruntime"}
PACKAGES = {"litert": "ai-edge-litert", "tflite": "tflite-runtime", "onnx": "onnxruntime"}
_PURPOSES = {
    "litert": "to run .tflite files with LiteRT",
    "tflite": "to run .tflite files with it",
    "onnx": "to run .onnx files",
}


def load_interpreter(name: str, *, extra: str | None = None, purpose: str | None = None) -> Any:
    """Import and return the module that has a backend's interpreter; onnxruntime without its telemetry.

    A user who wants the telemetry sets ORT_DISABLE_TELEMETRY to 0. Raises `MissingExtraError`, with the extra and the
    purpose that are given, if the package is missing, and for tflite-runtime under numpy 2, where it does not work.
    """
    if name == "tflite":
        _check_numpy()
    try:
        return _import(MODULES[name])
    except ImportError as error:
        raise MissingExtraError(PACKAGES[name], extra or name, purpose or _PURPOSES[name]) from error


def load_part(name: str, part: str) -> Any:
    """Import and return a module inside a backend's package, such as `quantization` of onnxruntime, as above.

    Raises `ImportError` if it is not there.
    """
    return _import(f"{_package(name)}.{part}")


def disable_telemetry() -> None:
    """Switch onnxruntime's telemetry off in this process and its children, unless the user has chosen.

    For programs in which other libraries import onnxruntime.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def preload(names: tuple[str, ...]) -> None:
    """Import those of the interpreters that are installed, in a child process before its memory is limited."""
    for name in names:
        with suppress(MissingExtraError):
            load_interpreter(name)


def installed(name: str) -> bool:
    """Return whether a backend's package can be found; it is not imported."""
    return find_spec(_package(name)) is not None


def backend_version(name: str) -> str | None:
    """Import a backend's package and return its version; None if it is not installed."""
    try:
        stated = getattr(_import(_package(name)), "__version__", None)
    except ImportError:
        return None
    if stated is not None:
        return str(stated)
    from importlib.metadata import PackageNotFoundError, version  # several times slower than asking the module

    try:
        return version(PACKAGES[name])
    except PackageNotFoundError:
        return None


def _package(name: str) -> str:
    return MODULES[name].partition(".")[0]


def _import(module: str) -> Any:
    if module.partition(".")[0] == MODULES["onnx"]:
        disable_telemetry()
    return import_module(module)


def _check_numpy() -> None:
    """Refuse numpy 2, for which tflite-runtime was not built: it is imported and then fails without a reason."""
    import numpy as np

    if int(np.__version__.split(".")[0]) >= 2:
        raise MissingExtraError("numpy below 2", "tflite", f"by tflite-runtime (this is numpy {np.__version__})")
