"""Run a model with the code of TensorFlow Lite Micro in a child process, and find the arena that it needs.

The interpreter has no getter for the memory that it needs, so the smallest arena is searched for. An arena that is too
small ends in an exception or in a crash, so each attempt is a process of its own.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.runtime.system.child import ChildError, call_in_child

ALIGNMENT = 16  # of the arena, and so the step of the search
_LIMIT = 2**28  # bytes; no microcontroller has a hundredth of it


@dataclass(frozen=True, eq=False)
class MicroTrial:
    """`arena` is the least number of bytes that works on this machine; `outputs` are (N, classes)."""

    arena: int
    outputs: Array


def try_micro(data: bytes, inputs: Array, where: str) -> MicroTrial:
    """Run a .tflite file in TensorFlow Lite Micro on `inputs` (N, H, W, C), of the input's own type.

    Raises `MissingExtraError` without the package, `InputError` if the interpreter cannot run the file.
    """
    if find_spec("tflite_micro") is None:
        raise MissingExtraError("tflite-micro", "micro", "to find the arena that the model needs")
    try:
        return MicroTrial(**call_in_child(run_micro, data, inputs))
    except ChildError as error:
        raise InputError(f"{where}: TensorFlow Lite Micro cannot run it: its process {error}") from error


def run_micro(model: bytes, inputs: Array) -> dict[str, Any]:
    """Search the arena, run the model on all inputs, and return the fields of a `MicroTrial`. Runs in the child."""
    arena = _least_arena(model, inputs[:1])
    interpreter = _opened(model, arena)
    return {"arena": arena, "outputs": np.stack([_run(interpreter, image[None]) for image in inputs])}


def _least_arena(model: bytes, image: Array) -> int:
    """Return the smallest arena, a multiple of 16 bytes, with which the model runs."""
    high = 4096
    while not _works(model, high, image):
        high *= 2
        if high > _LIMIT:
            _run(_opened(model, high), image)  # says why
            raise RuntimeError(f"{_LIMIT} bytes of memory are not enough")
    low = high // 2
    while high - low > ALIGNMENT:
        middle = (low + high) // 2 // ALIGNMENT * ALIGNMENT
        low, high = (low, middle) if _works(model, middle, image) else (middle, high)
    return high


def _works(model: bytes, arena: int, image: Array) -> bool:
    """Return whether the model runs, tried in a fork: the package has wheels for Linux only."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, sys.stderr.fileno())
        try:
            _run(_opened(model, arena), image)
        except (RuntimeError, ValueError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _opened(model: bytes, arena: int) -> Any:
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter.from_bytes(model, arena_size=arena)


def _run(interpreter: Any, image: Array) -> Array:
    interpreter.set_input(image, 0)
    interpreter.invoke()
    return np.array(interpreter.get_output(0)).reshape(-1)
