"""tflite-runtime 2.14: the last for 32-bit boards; CPython up to 3.11 and numpy before 2 only."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.runtime.backends.interpreter import InterpreterBackend


def tflite_module() -> Any:
    """The module that has `Interpreter`; raises `MissingExtraError`, for numpy 2 as well."""
    # Built for numpy 1: under numpy 2 the import works and the first interpreter fails with a riddle.
    if int(np.__version__.split(".")[0]) >= 2:
        raise MissingExtraError("numpy below 2", "tflite", f"by tflite-runtime (this is numpy {np.__version__})")
    try:
        from tflite_runtime import interpreter
    except ImportError as error:
        raise MissingExtraError("tflite-runtime", "tflite", "to run .tflite files with it") from error
    return interpreter


def open_tflite(data: bytes, threads: int, where: str) -> InterpreterBackend:
    """Open a .tflite file. Its int8 kernels are not XNNPACK's, so answers can differ by some levels."""
    return InterpreterBackend(tflite_module().Interpreter, "tflite", data, threads, where)
