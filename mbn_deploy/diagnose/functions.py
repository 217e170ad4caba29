"""Functions by which operations of model files are run on real numbers (see `file_graph`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.diagnose.file_graph import Run, run_of, with_constants
from mbn_deploy.graph.execute import run_op
from mbn_deploy.graph.graph import Interpolation, Op, OpKind
from mbn_deploy.graph.quantized import QuantParams

# Of one value and of two, by the names that .tflite and .onnx files have for them.
ONE: Mapping[str, Callable[[Any], Any]] = {
    "ABS": np.abs,
    "NEG": np.negative,
    "EXP": np.exp,
    "LOG": np.log,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "Sqrt": np.sqrt,
    "Erf": np.vectorize(math.erf, otypes=[np.float32]),
}
TWO: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("ADD", "Add"), np.add),
    **dict.fromkeys(("SUB", "Sub"), np.subtract),
    **dict.fromkeys(("MUL", "Mul"), np.multiply),
    **dict.fromkeys(("DIV", "Div"), np.divide),
    **dict.fromkeys(("MAXIMUM", "Max"), np.maximum),
    **dict.fromkeys(("MINIMUM", "Min"), np.minimum),
}


def run_one(name: str) -> Run:
    """Return how to run the function `name` of one value."""
    function = ONE[name]
    return lambda values: np.asarray(function(np.asarray(values[0])), np.float32)


def run_two(name: str, operands: Sequence[Floats | None]) -> Run:
    """Return how to run the function `name` of two values; None stands for an operand that is not constant."""
    function = TWO[name]
    return with_constants(operands, lambda values: function(np.asarray(values[0]), np.asarray(values[1])))


def run_concat(axis: int, operands: Sequence[Floats | None]) -> Run:
    """Return how to join the operands, in NHWC, along `axis`."""
    return with_constants(operands, lambda values: np.concatenate([np.asarray(value) for value in values], axis))


def run_slice(ranges: Sequence[slice]) -> Run:
    """Return how to take a part of a tensor in NHWC, one range for each axis behind the batch."""
    return lambda values: np.asarray(values[0])[(slice(None), *ranges)]


def run_transpose(order: Sequence[int]) -> Run:
    """Return how to move the axes of a tensor in NHWC."""
    return lambda values: np.asarray(values[0]).transpose(*order)


def run_resize(interpolation: Interpolation, size: Sequence[int]) -> Run:
    """Return how to resize an image to `size` (height, width) with half-pixel centres."""
    op = Op("resize", "resize", (), "", interpolation=interpolation)
    return lambda values: np.asarray(run_op(op, values, (1, *size, 1)))


def run_over_channels(name: str) -> Run:
    """Return how to run a mean, maximum or norm over the last axis, which stays with length 1."""
    function = _OVER_CHANNELS[name]
    return lambda values: function(np.asarray(values[0]))


_OVER_CHANNELS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("MEAN", "ReduceMean"), lambda x: x.mean(-1, keepdims=True)),
    **dict.fromkeys(("REDUCE_MAX", "ReduceMax"), lambda x: x.max(-1, keepdims=True)),
    "ReduceL2": lambda x: np.sqrt((x**2).sum(-1, keepdims=True)),
    "L2_NORMALIZATION": lambda x: x / np.maximum(np.sqrt((x**2).sum(-1, keepdims=True)), 1e-6),
}


def run_slopes(slopes: Any) -> Run:
    """Return how to run a ReLU with these slopes below zero: one number, or an array that broadcasts in NHWC."""
    kind: OpKind = "prelu"
    return run_of(Op(kind, kind, (), "", scale=np.asarray(slopes, np.float64)))


def run_lookup(table: Any, source: QuantParams, result: Callable[[], QuantParams]) -> Run:
    """Return how to look up the level of a value in a table of levels; `result` returns the parameters of these."""

    def run(values: Sequence[Any]) -> Any:
        levels = np.rint(np.asarray(values[0]) / source.scale) + source.zero_point
        return result().dequantize(table[np.clip(levels, *source.limits).astype(np.int64)])

    return run
