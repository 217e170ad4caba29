"""Quantized graphs become int8 .onnx files in QDQ form: a QuantizeLinear and a DequantizeLinear at every tensor.

ONNX Runtime replaces DequantizeLinear, op, QuantizeLinear by one integer op when it opens the file,
so every op here has such a triple of its own, and nothing stands between an op and its QuantizeLinear:
ReLU and ReLU6 are the saturation of the integers, or a Clip of the integers behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.writer import (
    LOWERINGS,
    RELU6_BOUND,
    Walk,
    flatten,
    input_shape,
    nchw,
    pad_amounts,
    per_channel,
)
from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import (
    INT8_MAX,
    INT8_MIN,
    UNSIGNED_SHIFT,
    ActivationParams,
    QuantizedGraph,
    constant_levels,
    constant_params,
)
from mbn_deploy.manifest import Layout

ActivationType = Literal["uint8", "int8"]
NO_INT16 = "ONNX Runtime's CPU kernels convolve integers of 8 bits only; activations of 16 bits are for TFLite"
InputType = Literal["uint8", "int8", "float32"]

_GATE = ActivationParams(1 / 255, INT8_MIN)  # 256 levels on [0, 1]


def write_onnx_int8(
    quantized: QuantizedGraph,
    *,
    activation_dtype: ActivationType = "uint8",
    input_dtype: InputType = "uint8",
    layout: Layout = "nchw",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """An int8 .onnx file (QDQ) with per-channel int8 weights and int32 biases.

    The input is `graph.input` in NCHW, or NHWC with one Transpose of the bytes. `uint8` are raw
    pixels when the graph's input quantization is the preprocessing; they go straight into a
    DequantizeLinear, as `int8` does, and `float32` through a QuantizeLinear. The output `graph.output`
    is float32 for every input type, behind the last DequantizeLinear: real scores, the way users of
    ONNX take them. Between those two borders everything computes in integers.

    `activation_dtype`: uint8 runs everywhere. On x86-64 ONNX Runtime has integer kernels for uint8
    activations with int8 weights only (int8 activations are converted when the file is opened; what
    it cannot convert falls back to float), and on ARM64 both have kernels of their own. int8 is worth a
    trial on ARM64, where MLAS has the symmetric GEMM of pointwise convolutions for signed activations
    alone (platform.cpp: SymmQgemmDispatch). x86-64 without VNNI adds pairs of uint8 x int8 products in 16 bits,
    which can saturate; there, the session option "session.x64quantprecision" = "1" is exact and slower.

    Raises `InputError` for ops without an integer form, for activations of 16 bits, and where onnx finds fault.
    """
    graph = quantized.graph
    if quantized.wide_outputs:
        raise InputError(f"{graph.name}: {NO_INT16}")
    walk = QdqWalk(quantized, activation_dtype)
    walk.input(input_dtype, layout)
    walk.ops()
    source = (graph.input, input_dtype, input_shape(graph, layout))
    return walk.build.finish(source, [(graph.output, "float32", nchw(graph.shapes[graph.output]))], metadata or {})


class QdqWalk(Walk):
    """Every result goes through integers; `values` are the outputs of DequantizeLinear nodes."""

    remedy = "it must be lowered before int8 is written"

    def __init__(self, quantized: QuantizedGraph, dtype: ActivationType) -> None:
        super().__init__(quantized.graph, frozenset({quantized.graph.output}))
        self.quantized, self.dtype = quantized, dtype
        self._integers: dict[str, str] = {}  # by the name of their dequantized values
        self._from_float: dict[str, str] = {}  # what float ops wrote, once it went through integers

    def input(self, dtype: InputType, layout: Layout) -> None:
        """From the file's input to the first tensor."""
        name = self.graph.input
        params = self.quantized.activations[name]
        integers = name
        if dtype == "float32":
            integers = self._quantize(name, f"{name}/quantized", params)
        if layout == "nhwc":
            integers = self.to_nchw(integers, f"{name}/nchw")
        stored: ActivationType = self.dtype if dtype == "float32" else dtype
        real = self._dequantize(integers, f"{name}/real", params, stored)
        if stored != self.dtype:  # pixels of the other signedness: the integer ops want one type
            real = self.store(real, f"{name}/{self.dtype}", params)
        self.values[name] = real

    def kernel(self, op: Op) -> npt.NDArray[Any]:
        """The op's integers, or its own kernel where it computes in float."""
        return super().kernel(op) if self.quantized.is_float(op) else self.quantized.weights[op.name].kernel

    def weights(self, op: Op, kernel: npt.NDArray[Any]) -> list[str]:
        """int8 kernel and int32 bias, each behind a DequantizeLinear with a scale an output channel."""
        if self.quantized.is_float(op):
            return super().weights(op, kernel)
        stored = self.quantized.weights[op.name]
        source = np.float32(self.quantized.activations[op.inputs[0]].scale)
        scales = stored.scales[:1] if stored.per_tensor else stored.scales
        return [
            self._dequantized_constant(f"{op.name}/kernel", kernel, scales),
            self._dequantized_constant(f"{op.name}/bias", stored.bias, source * scales),
        ]

    def node(self, op_type: str, op: Op, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        """One node and the integers of its result."""
        if self.quantized.is_float(op):
            return super().node(op_type, op, inputs, output, name, **attributes)
        inner = self.build.node(op_type, name, inputs, f"{output}/float", **attributes)
        return self.store(inner, output, self.quantized.activations[op.output])

    def emit(self, op_type: str, op: Op, inputs: Sequence[str], **attributes: Any) -> None:
        """The node that computes `op`; saturation is its activation."""
        if self.quantized.is_float(op):
            super().emit(op_type, op, inputs, **attributes)
            return
        # Saturation leaves no node that says what it stands for; `inspect` reads it here.
        note = {} if op.activation == "none" else {"doc_string": op.activation}
        inner = self.build.node(op_type, op.name, inputs, f"{op.output}/float", **note, **attributes)
        self.activation(op.activation, inner, op, op.name)

    def activation(self, kind: str, source: str, op: Op, name: str) -> None:
        """ReLU or ReLU6 while `source` is quantized to the op's output."""
        if self.quantized.is_float(op):
            super().activation(kind, source, op, name)
            return
        params = self.quantized.activations[op.output]
        self.values[op.output] = self.store(source, op.output, params, _levels(kind, params))

    def lower(self, op: Op) -> Callable[[Any, Op], None] | None:
        """Without the hard sigmoid, and with integer forms of what ONNX Runtime would compute in float."""
        return super().lower(op) if self.quantized.is_float(op) else _LOWERINGS.get(op.kind)

    def sources(self, op: Op) -> list[str]:
        """Names under which the op's inputs are read; an integer op reads what float ones wrote through integers."""
        if self.quantized.is_float(op):
            return super().sources(op)
        return [self._stored(name) for name in op.inputs]

    def _stored(self, name: str) -> str:
        """The tensor `name` behind integers."""
        if name not in self.quantized.float_outputs:
            return self.values[name]
        if name not in self._from_float:
            params = self.quantized.activations[name]
            self._from_float[name] = self.store(self.values[name], f"{name}/stored", params)
        return self._from_float[name]

    def store(
        self, source: str, output: str, params: ActivationParams, levels: tuple[int, int] = (INT8_MIN, INT8_MAX)
    ) -> str:
        """QuantizeLinear and DequantizeLinear; between them a Clip to `levels`, where those are not all there are."""
        integers = self._quantize(source, f"{output}/quantized", params)
        if levels != (INT8_MIN, INT8_MAX):
            bounds = [self._level(level) for level in levels]
            integers = self.build.node("Clip", f"{output}/clip", [integers, *bounds], f"{output}/clipped")
        return self._dequantize(integers, output, params, self.dtype)

    def scaled(self, tensor: str, factor: float, output: str) -> str:
        """A tensor of the graph times `factor`, by reading its integers with another scale."""
        params = self.quantized.activations[tensor]
        integers = self._integers[self._stored(tensor)]
        return self._dequantize(integers, output, replace(params, scale=params.scale * factor), self.dtype)

    def pad(self, op: Op, amounts: npt.NDArray[np.int64]) -> None:
        """A Pad of the integers."""
        params = self.quantized.activations[op.output]
        source = self._integers[self._stored(op.inputs[0])]
        inputs = [source, self.build.constant(f"{op.name}/pads", amounts), self._level(params.zero_point)]
        padded = self.build.node("Pad", op.name, inputs, f"{op.output}/quantized")
        self.values[op.output] = self._dequantize(padded, op.output, params, self.dtype)

    def offset(self, op: Op) -> str:
        """What `op` adds, from integers."""
        if self.quantized.is_float(op):
            return super().offset(op)
        result = self.quantized.activations[op.output]
        shaped = replace(op, offset=per_channel(op, len(self.graph.shapes[op.output])))
        return self._integer_constant(f"{op.output}/constant", *constant_levels(shaped, result))

    def number(self, value: float, result: ActivationParams, output: str) -> str:
        """The number `value`, to be added to what becomes `result`, from an integer of its own."""
        level, params = constant_params(value, result)
        return self._integer_constant(output, np.array(level, np.int8), params)

    def _integer_constant(self, name: str, levels: npt.NDArray[np.int8], params: ActivationParams) -> str:
        shift = UNSIGNED_SHIFT if self.dtype == "uint8" else 0
        integers = (levels.astype(np.int16) + shift).astype(self.dtype)
        return self._dequantize(self.build.constant(f"{name}/quantized", integers), name, params, self.dtype)

    def _quantize(self, source: str, output: str, params: ActivationParams) -> str:
        inputs = [source, *self._params(output, params, self.dtype)]
        return self.build.node("QuantizeLinear", output, inputs, output)

    def _dequantize(self, source: str, output: str, params: ActivationParams, dtype: ActivationType) -> str:
        self._integers[output] = source
        inputs = [source, *self._params(output, params, dtype)]
        return self.build.node("DequantizeLinear", f"{output}/dequantize", inputs, output)

    def _params(self, owner: str, params: ActivationParams, dtype: ActivationType) -> list[str]:
        """Names of scale and zero point of the integers `owner`."""
        scale = self.build.constant(f"{owner}/scale", np.array(params.scale, np.float32))
        return [scale, self._level(params.zero_point, dtype)]

    def _level(self, level: int, dtype: ActivationType | None = None) -> str:
        """A constant level, given in the int8 domain, shared by all that use it."""
        kind = dtype or self.dtype
        value = level + (UNSIGNED_SHIFT if kind == "uint8" else 0)
        return self.build.constant(f"level/{kind}/{value}", np.array(value, kind))

    def _dequantized_constant(self, name: str, integers: npt.NDArray[Any], scales: npt.NDArray[np.float32]) -> str:
        per_channel = scales.size > 1
        scale = scales if per_channel else scales[0]
        zeros = np.zeros(scales.size if per_channel else (), integers.dtype)
        inputs = [
            self.build.constant(f"{name}/quantized", integers),
            self.build.constant(f"{name}/scale", np.asarray(scale)),
            self.build.constant(f"zeros/{zeros.dtype}/{zeros.shape}", zeros),
        ]
        axis = {"axis": 0} if per_channel else {}
        return self.build.node("DequantizeLinear", f"{name}/dequantize", inputs, name, **axis)


def _levels(activation: str, params: ActivationParams) -> tuple[int, int]:
    """First and last level, in the int8 domain, that the activation lets through."""
    if activation in ("none", "unit"):  # the integers of `unit` cover [0, 1] and nothing else
        return INT8_MIN, INT8_MAX
    high = INT8_MAX
    if activation == "relu6":
        high = min(INT8_MAX, params.zero_point + round(RELU6_BOUND / params.scale))
    return params.zero_point, high


def _lower_hard_swish(walk: QdqWalk, op: Op) -> None:
    """As x * clip(x / 6 + 1/2, 0, 1): ONNX Runtime has no integer HardSwish, but integer Add and Mul.

    x / 6 costs nothing: the integers of x are read with a sixth of their scale.
    """
    sixth = walk.scaled(op.inputs[0], 1 / RELU6_BOUND, f"{op.output}/sixth")
    added = walk.build.node(
        "Add", f"{op.name}/gate", [sixth, walk.number(0.5, _GATE, f"{op.output}/half")], f"{op.output}/gate/float"
    )
    gate = walk.store(added, f"{op.output}/gate", _GATE)
    walk.emit("Mul", op, [*walk.sources(op), gate])


def _lower_pad(walk: QdqWalk, op: Op) -> None:
    """Directly on the integers, with the level of zero: ONNX Runtime would not join the triple around a Pad."""
    walk.pad(op, pad_amounts(op))


def _lower_global_max_pool(walk: QdqWalk, op: Op) -> None:
    """A MaxPool over everything: that one has integer kernels, GlobalMaxPool has none."""
    size = list(walk.graph.shapes[op.inputs[0]][1:3])
    if op.keepdims:
        walk.emit("MaxPool", op, walk.sources(op), kernel_shape=size)
        return
    pooled = walk.node("MaxPool", op, walk.sources(op), f"{op.output}/4d", op.name, kernel_shape=size)
    flatten(walk, op, pooled)


_LOWERINGS: Mapping[str, Callable[[Any, Op], None]] = {
    **{kind: lower for kind, lower in LOWERINGS.items() if kind != "hard_sigmoid"},
    "hard_swish": _lower_hard_swish,
    "pad": _lower_pad,
    "global_max_pool": _lower_global_max_pool,
}
