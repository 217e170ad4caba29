"""The storage of activations and weights in each precision of .tflite: one class for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import ModelBuilder
from mbn_deploy.export.tflite.operators import DEQUANTIZE_VERSIONS, ComputeType
from mbn_deploy.graph.graph import Op, Shape, grouped_kernel
from mbn_deploy.graph.quantized import (
    INT16_MAX,
    WEIGHT_MAX,
    QuantizedGraph,
    QuantizedWeights,
    QuantParams,
    constant_levels,
    symmetric_levels,
)

DYNAMIC_MIN_SIZE = 1024  # smaller kernels stay float, as in TFLite's own dynamic-range quantization
FLOAT16_MAX = 65504.0


class Float32Storage:
    """Everything is stored as float32. The other precisions override what they store otherwise."""

    def compute_type(self, op: Op) -> ComputeType:
        """Return the type of the activations that `op` computes on."""
        _ = op
        return "float"

    def quantized_tensor(self, build: ModelBuilder, name: str, op: Op, params_of: str, shape: Shape) -> int:
        """Add an integer tensor `name` with the parameters that `op` has for the tensor `params_of`."""
        _ = build, op, params_of, shape
        raise ValueError(f"{name}: a float file has no integer activations")

    def has_params_of_output(self, op: Op, name: str) -> bool:
        """Tell whether the integer `op` reads the tensor `name` in the parameters of its output."""
        raise ValueError(f"{name}: {op.name!r} has no integers in a float file")

    def slopes(self, build: ModelBuilder, op: Op, name: str) -> int:
        """Add the slopes of a `prelu`."""
        values = op.slopes().astype(np.float32)
        return build.tensor(name, values.shape, "float32", data=values)

    def number(self, build: ModelBuilder, op: Op, name: str, value: float) -> int:
        """Add a constant that `op` compares with its output's values."""
        _ = op
        return float_constant(build, name, value)

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """Add kernel and bias; return both, and whether the op is hybrid (float activations, int8 kernel).

        `kernel` is in TFLite's layout, with the output channels along `axis`.
        """
        _ = axis
        _, bias = op.weights()
        return (
            build.tensor(f"{op.name}/kernel", kernel.shape, "float32", data=kernel),
            build.tensor(f"{op.name}/bias", bias.shape, "float32", data=bias),
            False,
        )

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """Add the constant that `op` adds: one number, or one per channel."""
        return float_constant(build, name, op.number())


class Float16Storage(Float32Storage):
    """Weights are stored in half precision, each behind a DEQUANTIZE that delegates fold when they prepare."""

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """Add kernel and bias in half precision."""
        _ = axis
        _, bias = op.weights()
        return self._half(build, f"{op.name}/kernel", kernel), self._half(build, f"{op.name}/bias", bias), False

    @staticmethod
    def _half(build: ModelBuilder, name: str, values: Floats) -> int:
        if np.abs(values).max(initial=0) > FLOAT16_MAX:
            raise InputError(f"{name}: a value exceeds the float16 range of {FLOAT16_MAX}; leave out float16")
        stored = build.tensor(f"{name}/float16", values.shape, "float16", data=values.astype(np.float16))
        result = build.tensor(name, values.shape, "float32")
        version = DEQUANTIZE_VERSIONS["float16"]
        build.operator("DEQUANTIZE", [stored], [result], version, options_type="DequantizeOptions")
        return result


class DynamicStorage(Float32Storage):
    """Large kernels are stored as int8; the interpreter quantizes activations as they come (dynamic range).

    Those of grouped convolutions stay float: TFLite's kernel for int8 weights beside float activations knows no groups.
    """

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """Add an int8 kernel with one scale per output channel and a float bias; small kernels stay float."""
        if kernel.size < DYNAMIC_MIN_SIZE or op.groups > 1:
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
    """Tensors have the integers and parameters of a quantized graph; its float ops are stored as float32."""

    quantized: QuantizedGraph

    def compute_type(self, op: Op) -> ComputeType:
        """Return the type of the activations that the quantized graph has for `op`."""
        if self.quantized.is_float(op):
            return "float"
        return "int16" if self.quantized.is_int16(op) else "int8"

    def quantized_tensor(self, build: ModelBuilder, name: str, op: Op, params_of: str, shape: Shape) -> int:
        """Add an integer tensor `name` with the parameters that `op` has for the tensor `params_of`."""
        return quantized_tensor(build, name, shape, self.quantized.params(op)[params_of])

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """Add the int8 kernel and the integer bias of the quantized graph."""
        if self.quantized.is_float(op):
            return super().weights(build, op, kernel, axis)
        stored = self.quantized.weights[op.name]
        integers = kernel_layout(op, stored.kernel).reshape(kernel.shape)
        source = self.quantized.params(op)[op.inputs[0]].scale
        scales = stored.scales[:1] if stored.per_tensor else stored.scales
        bias_scale = np.float32(source) * scales
        dtype = self.bias_type(op)
        bias = stored.bias.astype(dtype)
        return (
            build.tensor(f"{op.name}/kernel", integers.shape, "int8", data=integers, scale=scales, axis=axis),
            build.tensor(f"{op.name}/bias", bias.shape, dtype, data=bias, scale=bias_scale),
            False,
        )

    def has_params_of_output(self, op: Op, name: str) -> bool:
        """Tell whether the integer `op` reads the tensor `name` in the parameters of its output."""
        params = self.quantized.params(op)
        return params[name] == params[op.output]

    def slopes(self, build: ModelBuilder, op: Op, name: str) -> int:
        """Add the slopes of a `prelu` as int8, with one scale for all."""
        if self.quantized.is_float(op):
            return super().slopes(build, op, name)
        levels, params = symmetric_levels(op.slopes())
        return quantized_tensor(build, name, levels.shape, params, levels)

    def number(self, build: ModelBuilder, op: Op, name: str, value: float) -> int:
        """Add a constant as an integer of the output's parameters."""
        if self.quantized.is_float(op):
            return super().number(build, op, name, value)
        params = self.quantized.params(op)[op.output]
        low, high = params.limits
        level = np.array(np.clip(round(value / params.scale) + params.zero_point, low, high), params.dtype)
        return quantized_tensor(build, name, (), params, level)

    def bias_type(self, op: Op) -> str:
        """Return int32, or int64 where int16 activations could add up to more than int32 holds.

        The kernel adds up in the type of the bias. The one for int64 is the reference implementation, some 25 times
        slower; depthwise convolutions of int16 have no other.
        """
        if self.compute_type(op) != "int16":
            return "int32"
        fits = op.kind != "depthwise" and largest_sum(self.quantized.weights[op.name]) <= np.iinfo(np.int32).max
        return "int32" if fits else "int64"

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """Add the constant as integers on the grid that keeps the sum exact."""
        if self.quantized.is_float(op):
            return super().offset(build, op, name)
        levels, params = constant_levels(op, self.quantized.params(op)[op.output])
        shape = levels.shape if levels.ndim == 0 else (1, 1, 1, levels.size)
        return quantized_tensor(build, name, shape, params, levels)


def quantized_tensor(
    build: ModelBuilder, name: str, shape: Shape, params: QuantParams, data: npt.NDArray[Any] | None = None
) -> int:
    """Add a tensor with these quantization parameters; with `data` it is a constant."""
    return build.tensor(name, shape, params.dtype, data=data, scale=[params.scale], zero_point=params.zero_point)


def largest_sum(weights: QuantizedWeights) -> int:
    """Return the largest magnitude that bias and products with any int16 activations can add up to."""
    spread = np.abs(weights.kernel.astype(np.int64)).reshape(-1, weights.bias.size).sum(0)
    # -32768 has a larger magnitude than 32767.
    return int((spread * (INT16_MAX + 1) + np.abs(weights.bias.astype(np.int64))).max())


def float_constant(build: ModelBuilder, name: str, value: float) -> int:
    """Add a float32 constant that is one number."""
    return build.tensor(name, (), "float32", data=np.array(value, np.float32))


def kernel_layout(op: Op, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Move a kernel to TFLite's layout.

    conv: (kh, kw, cin, cout) to (cout, kh, kw, cin / groups); depthwise: (kh, kw, c, m) to (1, kh, kw, c * m);
    dense: (cin, cout) to (cout, 1, 1, cin).
    """
    if op.kind == "conv":
        return np.ascontiguousarray(grouped_kernel(op, kernel).transpose(3, 0, 1, 2))
    if op.kind == "depthwise":
        return kernel.reshape(1, *kernel.shape[:2], -1)
    return np.ascontiguousarray(kernel.T)[:, None, None, :]
