"""What the twists of .tflite models pick from, and the numbers that they try."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = random.Random
Twist = Callable[[Any, Any, Rng], None]

LENGTHS = (0, 0, 1, 2, 3, 5, 7, 16, 127, 1024, 65535, 2**20, 2**27, 2**31 - 1, -1, -2)
NUMBERS = (0, 0, -1, 1, 2, 3, 4, 5, -2, -5, 7, 100, 255, 1024, 4096, 65536, 2**20, 2**30, 2**31 - 1, -(2**31))
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-38, 1e-10, 1e10, 3e38, -3e38, float("inf"), float("-inf"), float("nan"))
ZERO_POINTS = (0, 1, -1, 127, 128, -128, -129, 255, 256, 2**31 - 1, -(2**31), 2**40)
TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
NUMERIC = {0: "<f4", 2: "<i4", 4: "<i8", 9: "i1", 3: "u1", 10: "<f8", 7: "<i2", 1: "<f2", 6: "?", 12: "<u8", 15: "<u4"}


def pick_graph(model: Any, rng: Rng) -> Any:
    """Return a subgraph: the main one in most cases."""
    return model.subgraphs[0] if rng.random() < 0.7 else rng.choice(model.subgraphs)


def pick_tensor(model: Any, rng: Rng) -> Any:
    """Return a tensor: of an operation in most cases."""
    graph = pick_graph(model, rng)
    operators = graph.operators
    if operators and rng.random() < 0.7:  # of an operation
        operator = rng.choice(operators)
        numbers = [n for n in (*operator.inputs, *operator.outputs) if 0 <= n < len(graph.tensors)]
        if numbers:
            return graph.tensors[rng.choice(numbers)]
    return rng.choice(graph.tensors)


def pick_operator(model: Any, rng: Rng) -> Any:
    """Return an operation."""
    return rng.choice(pick_graph(model, rng).operators)


def pick_constant(model: Any, rng: Rng) -> Any:
    """Return a constant, or any tensor where there is none."""
    constants = [t for graph in model.subgraphs for t in graph.tensors if t.buffer]
    return rng.choice(constants) if constants else pick_tensor(model, rng)


def convert(model: Any, tensor: Any, new: int) -> None:
    """Set a tensor's type; a constant's content is converted where numpy has both types."""
    old, tensor.type = NUMERIC.get(tensor.type), new
    buffer = model.buffers[tensor.buffer]
    if tensor.buffer and buffer.data is not None and old and new in NUMERIC:
        with np.errstate(all="ignore"):
            values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), old).astype(NUMERIC[new])
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)


def quantize(tensor: Any, schema: Any, scales: list[float], zero_points: list[int]) -> None:
    """Give a tensor these scales and zero points."""
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = scales, zero_points


def options_of(operator: Any) -> Any:
    """Return an operation's options, of either union."""
    return operator.builtinOptions if operator.builtinOptions is not None else operator.builtinOptions2
