"""How each precision of .tflite keeps activations and weights: one small class a precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError
from mbn_deploy.export.graph import Floats, Op, Shape
from mbn_deploy.export.tflite_builder import ModelBuilder
from mbn_deploy.quantize.scheme import WEIGHT_MAX, QuantizedGraph, constant_levels

DYNAMIC_MIN_SIZE = 1024  # smaller kernels stay float, as in TFLite's own dynamic-range quantization
FLOAT16_MAX = 65504.0


class Storage(Protocol):
    """How a precision keeps activations and weights."""

    def computes_integers(self, op: Op) -> bool:
        """Whether `op` computes in int8, or in float."""

    def quantized_tensor(self, build: ModelBuilder, name: str, params_of: str, shape: Shape) -> int:
        """Index of a new int8 tensor `name` with the parameters of the graph's tensor `params_of`."""

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """Indices of kernel and bias, and whether the op is hybrid (float activations, int8 kernel)."""

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """Index of the tensor that `op` adds: one number, or one a channel."""


class Float32Storage:
    """Everything as it is."""

    def computes_integers(self, op: Op) -> bool:
        """See `Storage`."""
        _ = op
        return False

    def quantized_tensor(self, build: ModelBuilder, name: str, params_of: str, shape: Shape) -> int:
        """See `Storage`."""
        _ = build, params_of, shape
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
        scales = np.abs(kernel).max(axis=others) / WEIGHT_MAX
        scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
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

    def computes_integers(self, op: Op) -> bool:
        """See `Storage`."""
        return not self.quantized.is_float(op)

    def quantized_tensor(self, build: ModelBuilder, name: str, params_of: str, shape: Shape) -> int:
        """See `Storage`."""
        params = self.quantized.activations[params_of]
        return build.tensor(name, shape, "int8", scale=[params.scale], zero_point=params.zero_point)

    def weights(self, build: ModelBuilder, op: Op, kernel: Floats, axis: int) -> tuple[int, int, bool]:
        """See `Storage`."""
        if self.quantized.is_float(op):
            return super().weights(build, op, kernel, axis)
        stored = self.quantized.weights[op.name]
        integers = kernel_layout(op, stored.kernel).reshape(kernel.shape)
        source = self.quantized.activations[op.inputs[0]].scale
        name = f"{op.name}/kernel"
        scales = stored.scales[:1] if stored.per_tensor else stored.scales
        bias_scale = np.float32(source) * scales
        return (
            build.tensor(name, integers.shape, "int8", data=integers, scale=scales, axis=axis),
            build.tensor(f"{op.name}/bias", stored.bias.shape, "int32", data=stored.bias, scale=bias_scale),
            False,
        )

    def offset(self, build: ModelBuilder, op: Op, name: str) -> int:
        """See `Storage`."""
        if self.quantized.is_float(op):
            return super().offset(build, op, name)
        levels, params = constant_levels(op, self.quantized.activations[op.output])
        shape = levels.shape if levels.ndim == 0 else (1, 1, 1, levels.size)
        return build.tensor(name, shape, "int8", data=levels, scale=[params.scale], zero_point=params.zero_point)


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
