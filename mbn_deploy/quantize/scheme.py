"""Quantization parameters, and the quantized graph that int8 TFLite and int8 ONNX are both written from.

real = scale * (q - zero_point), with q in int8 (arXiv 1712.05877, equation 1). Weights are symmetric
(zero point 0, q in [-127, 127]); activations are asymmetric per tensor. ONNX files with uint8
activations add 128 to q and zero point: the same real values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbn_deploy.export.graph import Floats, Graph, Op

INT8_MIN, INT8_MAX = -128, 127
LEVELS = INT8_MAX - INT8_MIN  # steps between the first and the last level
TIE = 1e-3  # of a step: closer to a half than float32 arithmetic keeps apart
WEIGHT_MAX = 127  # -128 is not used: kernels that multiply two int8 in 16 bits would overflow


@dataclass(frozen=True)
class ActivationParams:
    """Per-tensor parameters of an activation, in the int8 domain."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (self.scale > 0 and np.isfinite(self.scale)) or not INT8_MIN <= self.zero_point <= INT8_MAX:
            raise ValueError(f"impossible quantization: scale {self.scale}, zero point {self.zero_point}")

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value that the eight bits can hold."""
        return self.scale * (INT8_MIN - self.zero_point), self.scale * (INT8_MAX - self.zero_point)


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


def constant_levels(op: Op, output: ActivationParams) -> tuple[npt.NDArray[np.int8], ActivationParams]:
    """What an `add_constant` adds as integers, in the shape of its offset.

    One a channel: none above 0, on the grid of `output`, so that the sum is exact.
    """
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

    `float_outputs` are the tensors whose ops compute in float (mixed precision); one that an integer
    op reads has parameters all the same, by which it is quantized on the way.
    """

    graph: Graph
    activations: dict[str, ActivationParams]
    weights: dict[str, QuantizedWeights]
    float_outputs: frozenset[str] = frozenset()

    def is_float(self, op: Op) -> bool:
        """Whether `op` computes in float."""
        return op.output in self.float_outputs

    @property
    def precision(self) -> str:
        """`int8`, or `int8-mixed` where some ops compute in float."""
        return "int8-mixed" if self.float_outputs else "int8"
