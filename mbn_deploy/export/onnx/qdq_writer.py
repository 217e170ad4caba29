"""The state of an int8 .onnx file while it is written, in QDQ form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Doubles
from mbn_deploy.export.onnx.graph_writer import RELU6_BOUND, OnnxGraphWriter, channel_offset
from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import (
    INT8_MAX,
    INT8_MIN,
    INT8_STEPS,
    UNSIGNED_SHIFT,
    QuantizedGraph,
    QuantParams,
    constant_levels,
    constant_params,
    symmetric_levels,
)
from mbn_deploy.manifest import Layout

IntegerType = Literal["uint8", "int8"]
_INT32 = 6  # TensorProto.DataType


class QdqGraphWriter(OnnxGraphWriter):
    """One int8 .onnx file being written: `values` are the outputs of DequantizeLinear nodes.

    Float ops of a mixed graph are written as in a float file.
    """

    def __init__(self, quantized: QuantizedGraph, dtype: IntegerType) -> None:
        super().__init__(quantized.graph, frozenset({quantized.graph.output}))
        self.quantized, self.dtype = quantized, dtype
        self._integers: dict[str, str] = {}  # the integers by the name of their dequantized values
        self._from_float: dict[str, str] = {}  # quantized copies of what float ops wrote

    def write_input(self, dtype: IntegerType | Literal["float32"], layout: Layout) -> None:
        """Append the nodes from the file's input to the graph's input tensor."""
        name = self.graph.input
        params = self.quantized.activations[name]
        integers = name
        if dtype == "float32":
            integers = self._quantize(name, f"{name}/quantized", params)
        if layout == "nhwc":
            integers = self.to_nchw(integers, f"{name}/nchw")
        stored: IntegerType = self.dtype if dtype == "float32" else dtype
        real = self._dequantize(integers, f"{name}/real", params, stored)
        if stored != self.dtype:  # the integer ops want one type, so pixels of the other signedness are converted
            real = self.store(real, f"{name}/{self.dtype}", params)
        self.values[name] = real

    def kernel(self, op: Op) -> npt.NDArray[Any]:
        """Return the op's int8 kernel, or its float kernel where it computes in float."""
        return super().kernel(op) if self.quantized.is_float(op) else self.quantized.weights[op.name].kernel

    def weights(self, op: Op, kernel: npt.NDArray[Any]) -> list[str]:
        """Add int8 kernel and int32 bias, each behind a DequantizeLinear with one scale per output channel."""
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
        """Append one of the nodes of `op`, and the integers of its result."""
        if self.quantized.is_float(op):
            return super().node(op_type, op, inputs, output, name, **attributes)
        inner = self.build.node(op_type, name, inputs, f"{output}/float", **attributes)
        return self.store(inner, output, self.quantized.activations[op.output])

    def emit(self, op_type: str, op: Op, inputs: Sequence[str], **attributes: Any) -> None:
        """Append the node that computes `op`; the saturation of the integers is its activation."""
        if self.quantized.is_float(op):
            super().emit(op_type, op, inputs, **attributes)
            return
        # Saturation leaves no node that names the activation, so `inspect` reads it here.
        note = {} if op.activation == "none" else {"doc_string": op.activation}
        inner = self.build.node(op_type, op.name, inputs, f"{op.output}/float", **note, **attributes)
        self.activation(op.activation, inner, op, op.name)

    def activation(self, kind: str, source: str, op: Op, name: str) -> None:
        """Apply ReLU or ReLU6 by quantizing `source` to the op's output."""
        if self.quantized.is_float(op):
            super().activation(kind, source, op, name)
            return
        params = self.quantized.activations[op.output]
        self.values[op.output] = self.store(source, op.output, params, _levels(kind, params))

    def sources(self, op: Op) -> list[str]:
        """Return the names under which the op's inputs are read; integer ops read quantized copies of float results."""
        if self.quantized.is_float(op):
            return super().sources(op)
        return [self._stored(name) for name in op.inputs]

    def _stored(self, name: str) -> str:
        """Return the name under which integer ops read the tensor `name`."""
        if name not in self.quantized.float_outputs:
            return self.values[name]
        if name not in self._from_float:
            params = self.quantized.activations[name]
            self._from_float[name] = self.store(self.values[name], f"{name}/stored", params)
        return self._from_float[name]

    def store(
        self, source: str, output: str, params: QuantParams, levels: tuple[int, int] = (INT8_MIN, INT8_MAX)
    ) -> str:
        """Append QuantizeLinear and DequantizeLinear, and between them a Clip unless `levels` are all there are."""
        integers = self._quantize(source, f"{output}/quantized", params)
        if levels != (INT8_MIN, INT8_MAX):
            bounds = [self._level(level) for level in levels]
            integers = self.build.node("Clip", f"{output}/clip", [integers, *bounds], f"{output}/clipped")
        return self._dequantize(integers, output, params, self.dtype)

    def scaled(self, tensor: str, factor: float, output: str) -> str:
        """Return a tensor of the graph times `factor`, by reading its integers with another scale."""
        params = self.quantized.activations[tensor]
        integers = self._integers[self._stored(tensor)]
        return self._dequantize(integers, output, replace(params, scale=params.scale * factor), self.dtype)

    def pad(self, op: Op, amounts: npt.NDArray[np.int64]) -> None:
        """Append a Pad of the integers."""
        source = self._stored(op.inputs[0])
        inputs = [self.build.constant(f"{op.name}/pads", amounts)]
        inputs.append(self._level(self.quantized.activations[op.output].zero_point))
        self._on_integers("Pad", op, source, inputs)

    def moves(self, op_type: str, op: Op, constants: Sequence[str] = (), **attributes: Any) -> None:
        """Append a node that moves or compares values, on the integers."""
        self._on_integers(op_type, op, self._stored(op.inputs[0]), constants, **attributes)

    def _on_integers(self, op_type: str, op: Op, source: str, constants: Sequence[str] = (), **attributes: Any) -> None:
        """Append a node that reads the integers of `source`, and writes those of the op's output in the same scale."""
        inputs = [self._integers[source], *constants]
        result = self.build.node(op_type, op.name, inputs, f"{op.output}/quantized", **attributes)
        self.values[op.output] = self._dequantize(result, op.output, self.quantized.activations[op.output], self.dtype)

    def on_integers(self, op_type: str, op: Op) -> None:
        """Append a node that computes on integers in the parameters of the op's output."""
        params = self.quantized.activations[op.output]
        sources = [self._integers[self._in_params(name, op.output)] for name in op.inputs]
        integers = self.build.node(op_type, op.name, sources, f"{op.output}/quantized")
        self.values[op.output] = self._dequantize(integers, op.output, params, self.dtype)

    def _in_params(self, name: str, result: str) -> str:
        """Return the tensor `name` in the parameters of the tensor `result`, quantized again if it has others."""
        source, params = self._stored(name), self.quantized.activations[result]
        if self.quantized.activations[name] == params:
            return source
        return self.store(source, f"{name}/{result}", params)

    def clipped(self, tensor: str, levels: tuple[int, int], output: str) -> str:
        """Return a tensor of the graph with its integers clipped to `levels`, given as int8."""
        integers = self._integers[self._stored(tensor)]
        bounds = [self._level(level) for level in levels]
        clipped = self.build.node("Clip", f"{output}/clip", [integers, *bounds], f"{output}/clipped")
        return self._dequantize(clipped, output, self.quantized.activations[tensor], self.dtype)

    def small(self, name: str, values: Doubles) -> str:
        """Add constants as int8 with zero point 0, and return their dequantized name."""
        return self._integer_constant(name, *symmetric_levels(values))

    def lookup(self, op: Op, function: Callable[[Doubles], Doubles]) -> None:
        """Append a Gather from a table that has the result of `function` for each level of the op's input."""
        source, result = (self.quantized.activations[name] for name in (op.inputs[0], op.output))
        # Negative indices count from the table's end.
        order = np.arange(INT8_STEPS + 1) if self.dtype == "uint8" else np.roll(np.arange(INT8_STEPS + 1), INT8_MIN)
        real = (order + INT8_MIN - source.zero_point) * np.float64(source.scale)
        levels = np.clip(np.rint(function(real) / result.scale) + result.zero_point, INT8_MIN, INT8_MAX)
        table = self.build.constant(f"{op.output}/table", self._as_stored(levels))
        integers = self._integers[self._stored(op.inputs[0])]
        index = self.build.node("Cast", f"{op.name}/index", [integers], f"{op.output}/index", to=_INT32)
        found = self.build.node("Gather", op.name, [table, index], f"{op.output}/quantized", axis=0)
        self.values[op.output] = self._dequantize(found, op.output, result, self.dtype)

    def offset(self, op: Op) -> str:
        """Add the integer constant that `op` adds, and return its dequantized name."""
        if self.quantized.is_float(op):
            return super().offset(op)
        result = self.quantized.activations[op.output]
        shaped = replace(op, offset=channel_offset(op, len(self.graph.shapes[op.output])))
        return self._integer_constant(f"{op.output}/constant", *constant_levels(shaped, result))

    def number(self, value: float, result: QuantParams, output: str) -> str:
        """Add the number `value` as an integer constant, to be added to integers that become `result`."""
        level, params = constant_params(value, result)
        return self._integer_constant(output, np.array(level, np.int8), params)

    def _integer_constant(self, name: str, levels: npt.NDArray[np.int8], params: QuantParams) -> str:
        constant = self.build.constant(f"{name}/quantized", self._as_stored(levels))
        return self._dequantize(constant, name, params, self.dtype)

    def _as_stored(self, levels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return int8 levels in the integer type of the file."""
        shift = UNSIGNED_SHIFT if self.dtype == "uint8" else 0
        return (levels.astype(np.int16) + shift).astype(self.dtype)

    def _quantize(self, source: str, output: str, params: QuantParams) -> str:
        inputs = [source, *self._params(output, params, self.dtype)]
        return self.build.node("QuantizeLinear", output, inputs, output)

    def _dequantize(self, source: str, output: str, params: QuantParams, dtype: IntegerType) -> str:
        self._integers[output] = source
        inputs = [source, *self._params(output, params, dtype)]
        return self.build.node("DequantizeLinear", f"{output}/dequantize", inputs, output)

    def _params(self, owner: str, params: QuantParams, dtype: IntegerType) -> list[str]:
        """Add scale and zero point of the integers `owner`, and return their names."""
        scale = self.build.constant(f"{owner}/scale", np.array(params.scale, np.float32))
        return [scale, self._level(params.zero_point, dtype)]

    def _level(self, level: int, dtype: IntegerType | None = None) -> str:
        """Return the name of a constant level, given as int8, that all nodes share."""
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


def _levels(activation: str, params: QuantParams) -> tuple[int, int]:
    """Return the first and last int8 level that the activation lets through."""
    if activation in ("none", "unit"):  # the levels of `unit` cover exactly [0, 1]
        return INT8_MIN, INT8_MAX
    high = INT8_MAX
    if activation == "relu6":
        high = min(INT8_MAX, params.zero_point + round(RELU6_BOUND / params.scale))
    return params.zero_point, high
