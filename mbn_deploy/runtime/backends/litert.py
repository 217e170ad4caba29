"""ai-edge-litert: the default for .tflite."""

from __future__ import annotations

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.runtime.backends.interpreter import InterpreterBackend


def open_litert(data: bytes, threads: int, where: str) -> InterpreterBackend:
    """Open a .tflite file with XNNPACK, LiteRT's default delegate."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "litert", "to run .tflite files with LiteRT") from error
    return InterpreterBackend(Interpreter, "litert", data, threads, where)
