"""The quantized graph that int8 TFLite and int8 ONNX files are written from, and quantization parameters.

real = scale * (q - zero_point) for an integer q (arXiv 1712.05877, equation 1). Weights are int8 and
symmetric (zero point 0, q in [-127, 127]). Activations are int8 and asymmetric, with one scale a tensor;
ONNX files with uint8 activations add 128 to q and to the zero point, which leaves the real values as they
are. Activations of 16 bits are symmetric, since TFLite's kernels require it; the weights beside them stay int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.graph import Graph, Op, OpKind

INT8_MIN, INT8_MAX = -128, 127
UNSIGNED_SHIFT = 128  # from int8 values and zero points to those of uint8
INT8_STEPS = INT8_MAX - INT8_MIN
INT16_MIN, INT16_MAX = -32768, 32767
INT16X8 = "int16x8"  # the precision of files in which every activation has 16 bits
# Ops whose integer kernels copy or compare values: output and input share scale and zero point.
PASS_THROUGH = frozenset(
    {
        *("reshape", "pad", "max_pool", "average_pool", "global_max_pool"),
        *("slice", "resize", "transpose", "channel_max"),
    }
)
# Ops whose integer kernels copy, compare or clip the values of their inputs, which therefore are quantized by the
# output's parameters first.
SHARED_PARAMS: frozenset[OpKind] = frozenset({"concat", "maximum", "minimum", "clip"})
# TFLite has no integer kernel for these: they compute in float, in files that are called int8-mixed.
FLOAT_ONLY: frozenset[OpKind] = frozenset(
    {"softplus", "softsign", "mish", "threshold", "log_softmax", "normalize", "l2_normalize"}
)
# TFLite has kernels of 8 bits for these, but none of 16.
NO_INT16: frozenset[OpKind] = FLOAT_ONLY | {"elu", "gelu", "gelu_tanh", "prelu"}
# In steps. Float32 arithmetic does not tell a value from a half that is closer than this.
TIE = 1e-3
WEIGHT_MAX = 127  # -128 is not used: kernels that multiply two int8 in 16 bits would overflow

ActivationType = Literal["int8", "int16"]
LIMITS: dict[str, tuple[int, int]] = {
    "int8": (INT8_MIN, INT8_MAX),
    "uint8": (0, 255),
    "int16": (INT16_MIN, INT16_MAX),
    "uint16": (0, 65535),
}


@dataclass(frozen=True)
class QuantParams:
    """Scale, zero point and integer type of a tensor. This program's own graphs use int8 and int16.

    `clip` are the smallest and the largest integer where a file clips to fewer than the type has.

    Raises:
        ValueError: a scale that is not a positive number, or a zero point beyond the type's limits.
    """

    scale: float
    zero_point: int
    dtype: str = "int8"
    clip: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        first, last = LIMITS[self.dtype]
        if not (self.scale > 0 and np.isfinite(self.scale)) or not first <= self.zero_point <= last:
            raise ValueError(f"impossible quantization: scale {self.scale}, zero point {self.zero_point}")

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return self.clip or LIMITS[self.dtype]

    @property
    def range(self) -> tuple[float, float]:
        """The real values of the smallest and the largest integer."""
        first, last = self.limits
        return self.scale * (first - self.zero_point), self.scale * (last - self.zero_point)

    def saturate(self, values: Any) -> Floats:
        """Clip real values to the range: in integer files this is often how an activation is computed."""
        return np.asarray(np.clip(np.asarray(values), *self.range), np.float32)

    def round(self, values: Any) -> Floats:
        """Quantize real values and return the real values that the integers stand for."""
        integers = np.clip(np.rint(np.asarray(values) / self.scale) + self.zero_point, *self.limits)
        return np.asarray((integers - self.zero_point) * np.float32(self.scale), np.float32)

    def dequantize(self, integers: npt.NDArray[Any]) -> Floats:
        """Return the real values that integers of a file stand for."""
        return np.asarray((integers.astype(np.int32) - self.zero_point) * np.float32(self.scale), np.float32)


def params_for(low: float, high: float) -> QuantParams:
    """Return int8 parameters that cover [low, high] and represent zero exactly (arXiv 1712.05877, section 3.1).

    A ReLU6 that saturates on the calibration set has high = 6 and gets scale 6/255 and zero point -128. A tensor that
    is always zero gets the range [0, 1]: any range is right for it, and a tiny one would break the requantization in
    the op that writes it.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < np.finfo(np.float32).tiny * INT8_STEPS:
        low, high = 0.0, 1.0
    scale = float(np.float32((high - low) / INT8_STEPS))
    zero_point = int(np.clip(np.rint(INT8_MIN - low / scale), INT8_MIN, INT8_MAX))
    return QuantParams(scale, zero_point)


def constant_params(value: float, output: QuantParams) -> tuple[int, QuantParams]:
    """Return an int8 integer and the parameters with which it stands for the number `value`.

    The number is added to integers, and the sum is quantized by `output`. Where the number is an odd count of
    half steps of `output`, as 3 is of [0, 6], the sum is a tie whenever the other integer is zero, and kernel
    libraries round ties differently. An eighth of a step more, and all of them round alike.
    """
    steps = value / output.scale
    if abs(abs(steps) % 1 - 0.5) < TIE:
        value += output.scale / 8
    return (INT8_MAX if value > 0 else -INT8_MAX), QuantParams(abs(value) / INT8_MAX, 0)


def constant_levels(op: Op, output: QuantParams) -> tuple[npt.NDArray[Any], QuantParams]:
    """Quantize what an `add_constant` adds, to the integer type of `output` and in the shape of the op's offset.

    Constants that differ by channel must not be above 0; they get the scale of `output`, so that the sum is exact.

    Raises:
        ValueError: such constants do not fit into int8.
    """
    if output.dtype == "int16":
        offset = np.array(op.number()) if op.offset is None or op.offset.size == 1 else op.offset
        scale = float(np.float32(np.abs(offset).max() / INT16_MAX))
        return np.rint(offset / scale).astype(np.int16), QuantParams(scale, 0, "int16")
    if op.offset is None or op.offset.size == 1:
        level, params = constant_params(op.number(), output)
        return np.array(level, np.int8), params
    levels = np.rint(op.offset / output.scale) + INT8_MAX
    if levels.min() < INT8_MIN or levels.max() > INT8_MAX:
        raise ValueError(f"op {op.name!r}: constants from {op.offset.min()} to {op.offset.max()} do not fit")
    return levels.astype(np.int8), QuantParams(output.scale, INT8_MAX)


def symmetric_levels(values: Doubles) -> tuple[npt.NDArray[np.int8], QuantParams]:
    """Quantize constants to int8 with zero point 0 and one scale."""
    scale = float(np.float32(np.abs(values).max() / WEIGHT_MAX)) or 1.0
    return np.rint(values / scale).astype(np.int8), QuantParams(scale, 0)


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """The integers of one op: kernel int8 in the layout of the float one, bias int32, one scale an output channel.

    The bias has the scale `input scale * weight scale` and zero point 0. With `per_tensor` all scales are equal,
    and files store only one.
    """

    kernel: npt.NDArray[np.int8]
    scales: Floats
    bias: npt.NDArray[np.int32]
    per_tensor: bool = False


@dataclass(frozen=True, eq=False)
class QuantizedGraph:
    """A float graph with the quantization parameters of every tensor and the integers of every weighted op.

    `float_outputs` are the tensors whose ops compute in float, `int16_outputs` those whose ops compute on
    activations of 16 bits. Every tensor has int8 parameters in `activations`; if there are `int16_outputs`, it has
    int16 parameters in `int16_params`, too. Where an op reads a tensor in another type than it was written in, the
    file writer inserts a QUANTIZE with the reader's parameters.

    Raises:
        ValueError: int16 parameters whose zero point is not 0.
    """

    graph: Graph
    activations: dict[str, QuantParams]
    weights: dict[str, QuantizedWeights]
    float_outputs: frozenset[str] = frozenset()
    int16_outputs: frozenset[str] = frozenset()
    int16_params: dict[str, QuantParams] = field(default_factory=dict)

    def __post_init__(self) -> None:
        asymmetric = [name for name, params in self.int16_params.items() if params.zero_point != 0]
        if asymmetric:
            raise ValueError(f"tensor {asymmetric[0]!r}: activations of 16 bits must have zero point 0")

    def is_float(self, op: Op) -> bool:
        """Return whether `op` computes in float."""
        return op.output in self.float_outputs

    def is_int16(self, op: Op) -> bool:
        """Return whether `op` computes on activations of 16 bits."""
        return op.output in self.int16_outputs

    def params(self, op: Op) -> Mapping[str, QuantParams]:
        """Return the parameters by tensor, in the type that the integer op `op` reads and writes."""
        return self.int16_params if self.is_int16(op) else self.activations

    @property
    def output_params(self) -> QuantParams:
        """The parameters with which the last op writes the graph's output."""
        name = self.graph.output
        return self.int16_params[name] if name in self.int16_outputs else self.activations[name]

    @property
    def precision(self) -> str:
        """`int8`, `int16x8` (every activation has 16 bits), or `int8-mixed`: some ops in float or with 16 bits."""
        if self.int16_outputs == {op.output for op in self.graph.ops}:
            return INT16X8
        return "int8-mixed" if self.float_outputs or self.int16_outputs else "int8"
