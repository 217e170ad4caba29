"""Quantization parameters, and the quantized graph that int8 TFLite and int8 ONNX are both written from.

real = scale * (q - zero_point), with q in int8 (arXiv 1712.05877, equation 1). Weights are symmetric
(zero point 0, q in [-127, 127]); activations are asymmetric per tensor. ONNX files with uint8
activations add 128 to q and zero point: the same real values. Activations of 16 bits are symmetric,
as TFLite's kernels want them; weights stay int8 beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import Graph, Op

INT8_MIN, INT8_MAX = -128, 127
UNSIGNED_SHIFT = 128  # from levels and zero points of int8 to those of uint8
LEVELS = INT8_MAX - INT8_MIN  # steps between the first and the last level
INT16_MIN, INT16_MAX = -32768, 32767
INT16X8 = "int16x8"  # the precision of files whose every activation has 16 bits
# Ops whose integer kernels hand values through: output and input share scale and zero point.
PASS_THROUGH = frozenset({"reshape", "pad", "max_pool", "average_pool", "global_max_pool"})
TIE = 1e-3  # of a step: closer to a half than float32 arithmetic keeps apart
WEIGHT_MAX = 127  # -128 is not used: kernels that multiply two int8 in 16 bits would overflow


ActivationType = Literal["int8", "int16"]
_LIMITS: dict[ActivationType, tuple[int, int]] = {"int8": (INT8_MIN, INT8_MAX), "int16": (INT16_MIN, INT16_MAX)}


@dataclass(frozen=True)
class ActivationParams:
    """Per-tensor parameters of an activation: in the int8 domain, or symmetric in int16."""

    scale: float
    zero_point: int
    dtype: ActivationType = "int8"

    def __post_init__(self) -> None:
        first, last = self.limits if self.dtype == "int8" else (0, 0)
        if not (self.scale > 0 and np.isfinite(self.scale)) or not first <= self.zero_point <= last:
            raise ValueError(f"impossible quantization: scale {self.scale}, zero point {self.zero_point}")

    @property
    def limits(self) -> tuple[int, int]:
        """The first and the last level."""
        return _LIMITS[self.dtype]

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value that the levels can hold."""
        first, last = self.limits
        return self.scale * (first - self.zero_point), self.scale * (last - self.zero_point)


def constant_params(value: float, output: ActivationParams) -> tuple[int, ActivationParams]:
    """The level that stands for the number `value`, and the parameters that make it so.

    The number is added to integers that become `output`. Where it is an odd number of half steps of
    that, as 3 is of [0, 6], the sum is a tie whenever the other integer is a zero, and kernel
    libraries round ties differently; an eighth of a step more and all round alike.
    """
    steps = value / output.scale
    if abs(abs(steps) % 1 - 0.5) < TIE:
        value += output.scale / 8
    return (INT8_MAX if value > 0 else -INT8_MAX), ActivationParams(abs(value) / INT8_MAX, 0)


def constant_levels(op: Op, output: ActivationParams) -> tuple[npt.NDArray[Any], ActivationParams]:
    """What an `add_constant` adds as integers of the output's type, in the shape of its offset.

    One a channel: none above 0, on the grid of `output`, so that the sum is exact.
    """
    if output.dtype == "int16":
        offset = np.array(op.number()) if op.offset is None or op.offset.size == 1 else op.offset
        scale = float(np.float32(np.abs(offset).max() / INT16_MAX))
        return np.rint(offset / scale).astype(np.int16), ActivationParams(scale, 0, "int16")
    if op.offset is None or op.offset.size == 1:
        level, params = constant_params(op.number(), output)
        return np.array(level, np.int8), params
    levels = np.rint(op.offset / output.scale) + INT8_MAX
    if levels.min() < INT8_MIN or levels.max() > INT8_MAX:
        raise ValueError(f"op {op.name!r}: constants from {op.offset.min()} to {op.offset.max()} do not fit")
    return levels.astype(np.int8), ActivationParams(output.scale, INT8_MAX)


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """Integers of one op: kernel int8 (layout as the float one), bias int32, one scale an output channel.

    The bias has scale `input scale * weight scale` and zero point 0. `per_tensor`: all scales are the
    same one, and files say it once.
    """

    kernel: npt.NDArray[np.int8]
    scales: Floats
    bias: npt.NDArray[np.int32]
    per_tensor: bool = False


@dataclass(frozen=True, eq=False)
class QuantizedGraph:
    """A float graph with the parameters of every tensor and the integers of every weighted op.

    `float_outputs` are the tensors whose ops compute in float, `wide_outputs` those whose ops compute on
    activations of 16 bits (mixed precision). A tensor has parameters in each width, in `activations` for
    8 bits and in `wide` for 16 (empty where no op needs it): by those of the reader it is quantized on the
    way where the writer has others.
    """

    graph: Graph
    activations: dict[str, ActivationParams]
    weights: dict[str, QuantizedWeights]
    float_outputs: frozenset[str] = frozenset()
    wide_outputs: frozenset[str] = frozenset()
    wide: dict[str, ActivationParams] = field(default_factory=dict)

    def is_float(self, op: Op) -> bool:
        """Whether `op` computes in float."""
        return op.output in self.float_outputs

    def is_wide(self, op: Op) -> bool:
        """Whether `op` computes on activations of 16 bits."""
        return op.output in self.wide_outputs

    def params(self, op: Op) -> Mapping[str, ActivationParams]:
        """Parameters by tensor, in the width that the integer op `op` reads and writes."""
        return self.wide if self.is_wide(op) else self.activations

    @property
    def output_params(self) -> ActivationParams:
        """Of the graph's output as its op leaves it."""
        name = self.graph.output
        return self.wide[name] if name in self.wide_outputs else self.activations[name]

    @property
    def precision(self) -> str:
        """`int8`, `int16x8` (every activation has 16 bits), or `int8-mixed` for a mixture of them or with float."""
        if self.wide_outputs == {op.output for op in self.graph.ops}:
            return INT16X8
        return "int8-mixed" if self.float_outputs or self.wide_outputs else "int8"
