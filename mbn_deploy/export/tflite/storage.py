"""How each precision of .tflite keeps activations and weights: one small class a precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import ModelBuilder
from mbn_deploy.graph.graph import Op, Shape
from mbn_deploy.graph.quantized import (
    INT16_MAX,
    WEIGHT_MAX,
    ActivationParams,
    QuantizedGraph,
    QuantizedWeights,
    constant_levels,
)

DYNAMIC_MIN_SIZE = 1024  # smaller kernels stay float, as in TFLite's own dynamic-range quantization
FLOAT16_MAX = 65504.0
Form = Literal["float", "int8", "int16"]  # of the activations that an op computes on


class Storage(Protocol):
    """How a precision keeps activations and weights."""

    def form(self, op: Op) -> Form:
        """In what `op` computes."""

    def quantized_tensor(self, build: ModelBuilder, name: str, op: Op, params_of: str, shape: Shape) -> int:
        """Index of a new integer tensor `name` with the parameters that `op` has for the tensor `params_of`."""

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """Indices of kernel and bias, and whether the op is hybrid (float activations, int8 kernel)."""

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """Index of the tensor that `op` adds: one number, or one a channel."""


class Float32Storage:
    """Everything as it is."""

    def form(self, op: Op) -> Form:
        """See `Storage`."""
        _ = op
        return "float"

    def quantized_tensor(self, build: ModelBuilder, name: str, op: Op, params_of: str, shape: Shape) -> int:
        """See `Storage`."""
        _ = build, op, params_of, shape
        raise ValueError(f"{name}: a float file has no int8 activations")

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """See `Storage`."""
        _ = axis
        _, bias = op.weights()
        return (
            build.tensor(f"{op.name}/kernel", kernel.shape, "float32", data=kernel),
            build.tensor(f"{op.name}/bias", bias.shape, "float32", data=bias),
            False,
        )

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """See `Storage`."""
        return float_constant(build, name, op.number())


class Float16Storage(Float32Storage):
    """Half-precision constants, each behind a DEQUANTIZE that delegates fold when they prepare."""

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """See `Storage`."""
        _ = axis
        _, bias = op.weights()
        return self._half(build, f"{op.name}/kernel", kernel), self._half(build, f"{op.name}/bias", bias), False

    @staticmethod
    def _half(build: ModelBuilder, name: str, values: Floats) -> int:
        if np.abs(values).max(initial=0) > FLOAT16_MAX:
            raise InputError(f"{name}: a value exceeds the float16 range of {FLOAT16_MAX}; leave out float16")
        stored = build.tensor(f"{name}/float16", values.shape, "float16", data=values.astype(np.float16))
        made = build.tensor(name, values.shape, "float32")
        build.operator("DEQUANTIZE", [stored], [made], 3, options_type="DequantizeOptions")
        return made


class DynamicStorage(Float32Storage):
    """int8 kernels, float activations: the interpreter quantizes activations as they come."""

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """See `Storage`."""
        if kernel.size < DYNAMIC_MIN_SIZE:
            return super().weights(build, op, kernel, axis)
        others = tuple(i for i in range(kernel.ndim) if i != axis)
        steps = np.abs(kernel).max(axis=others) / WEIGHT_MAX
        scales = np.where(steps > 0, steps, 1.0).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(kernel.ndim)]
        integers = np.clip(np.rint(kernel / scales.reshape(shape)), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
        _, bias = op.weights()
        return (
            build.tensor(f"{op.name}/kernel", kernel.shape, "int8", data=integers, scale=scales, axis=axis),
            build.tensor(f"{op.name}/bias", bias.shape, "float32", data=bias),
            True,
        )


@dataclass(frozen=True, eq=False)
class Int8Storage(Float32Storage):
    """The integers and parameters of a quantized graph; its float ops as in a float32 file."""

    quantized: QuantizedGraph

    def form(self, op: Op) -> Form:
        """See `Storage`."""
        if self.quantized.is_float(op):
            return "float"
        return "int16" if self.quantized.is_wide(op) else "int8"

    def quantized_tensor(self, build: ModelBuilder, name: str, op: Op, params_of: str, shape: Shape) -> int:
        """See `Storage`."""
        return quantized_tensor(build, name, shape, self.quantized.params(op)[params_of])

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """See `Storage`."""
        if self.quantized.is_float(op):
            return super().weights(build, op, kernel, axis)
        stored = self.quantized.weights[op.name]
        integers = kernel_layout(op, stored.kernel).reshape(kernel.shape)
        source = self.quantized.params(op)[op.inputs[0]].scale
        name = f"{op.name}/kernel"
        scales = stored.scales[:1] if stored.per_tensor else stored.scales
        bias_scale = np.float32(source) * scales
        dtype = self.bias_type(op)
        bias = stored.bias.astype(dtype)
        return (
            build.tensor(name, integers.shape, "int8", data=integers, scale=scales, axis=axis),
            build.tensor(f"{op.name}/bias", bias.shape, dtype, data=bias, scale=bias_scale),
            False,
        )

    def bias_type(self, op: Op) -> str:
        """int32 beside activations of 8 bits, and of 16 where a convolution's sums keep to it; else int64.

        The type of the bias is the type of the sums, and decides on the kernel: with int64 it is the reference
        one, some 25 times slower. Depthwise convolutions have no other.
        """
        if self.form(op) != "int16":
            return "int32"
        fits = op.kind != "depthwise" and largest_sum(self.quantized.weights[op.name]) <= np.iinfo(np.int32).max
        return "int32" if fits else "int64"

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """See `Storage`."""
        if self.quantized.is_float(op):
            return super().offset(build, op, name)
        levels, params = constant_levels(op, self.quantized.params(op)[op.output])
        shape = levels.shape if levels.ndim == 0 else (1, 1, 1, levels.size)
        return quantized_tensor(build, name, shape, params, levels)


def quantized_tensor(
    build: ModelBuilder, name: str, shape: Shape, params: ActivationParams, data: npt.NDArray[Any] | None = None
) -> int:
    """Index of a new tensor of these parameters."""
    return build.tensor(name, shape, params.dtype, data=data, scale=[params.scale], zero_point=params.zero_point)


def largest_sum(weights: QuantizedWeights) -> int:
    """The largest magnitude that bias and products of any int16 activations can add up to."""
    spread = np.abs(weights.kernel.astype(np.int64)).reshape(-1, weights.bias.size).sum(0)
    # The first level, one further from 0 than the last, is left to the last bit of the bound.
    return int((spread * (INT16_MAX + 1) + np.abs(weights.bias.astype(np.int64))).max())


def float_constant(build: ModelBuilder, name: str, value: float) -> int:
    """Index of a float tensor that is one number."""
    return build.tensor(name, (), "float32", data=np.array(value, np.float32))


def kernel_layout(op: Op, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """HWIO to TFLite's OHWI; depthwise (kh, kw, c, m) to (1, kh, kw, c*m); dense (i, o) to (o, 1, 1, i)."""
    if op.kind == "conv":
        return np.ascontiguousarray(kernel.transpose(3, 0, 1, 2))
    if op.kind == "depthwise":
        return kernel.reshape(1, *kernel.shape[:2], -1)
    return np.ascontiguousarray(kernel.T)[:, None, None, :]
