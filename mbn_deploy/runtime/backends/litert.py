"""ai-edge-litert: the default for .tflite."""

from __future__ import annotations

from typing import Any

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.runtime.backends.interpreter import InterpreterBackend


def litert_module() -> Any:
    """The module that has `Interpreter`; raises `MissingExtraError`."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "litert", "to run .tflite files with LiteRT") from error
    return interpreter


def open_litert(data: bytes, threads: int, where: str) -> InterpreterBackend:
    """Open a .tflite file with XNNPACK, LiteRT's default delegate."""
    return InterpreterBackend(litert_module().Interpreter, "litert", data, threads, where)
