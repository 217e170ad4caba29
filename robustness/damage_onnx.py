"""Open an .onnx file to be damaged, through the onnx package."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from damage_model import Array, EditedModel, Layer, Parameter, Quantization, Rewrite

from mbn_deploy.export.onnx.builder import onnx_module
from mbn_deploy.manifest import DESCRIPTION_KEY

_LAYERS = ("Conv", "Gemm", "MatMul")
_WITH_CONSTANTS = ("Add", "Mul", "Sub", "Div", "Min", "Max", "Clip", "PRelu")
# An operator and what somebody may take for it: both have the same inputs.
_MISTAKEN = {"GlobalAveragePool": "GlobalMaxPool", "HardSwish": "Relu", "Relu": "LeakyRelu", "Sigmoid": "HardSigmoid"}
_FACTORS = {"alpha": 2.0, "beta": 0.6, "epsilon": 1e4}


class OnnxModel(EditedModel):
    """A float file, or an integer one whose constants and tensors have QuantizeLinear and DequantizeLinear."""

    def __init__(self, data: bytes) -> None:
        self._onnx = onnx_module()
        self._model = self._onnx.load_from_string(data)
        self._graph = self._model.graph
        self._initializers = {t.name: t for t in self._graph.initializer}
        self._maker = {name: node for node in self._graph.node for name in node.output}
        self._quantizations: list[tuple[Quantization, Array, Array, list[Any]]] = []
        self._by_tensor: dict[str, Quantization] = {}
        self._layer_constants: list[tuple[Layer, str, str | None]] = []
        self.layers = [layer for node in self._graph.node if (layer := self._layer(node)) is not None]
        self.constants = {
            name: self._values(name)
            for node in self._graph.node
            for name in (node.input if node.op_type in _WITH_CONSTANTS else ())
            if name in self._initializers
        }
        self._constants = {name: value.copy() for name, value in self.constants.items()}
        self.activations = self._activations()

    def _values(self, name: str) -> Array:
        return np.array(self._onnx.numpy_helper.to_array(self._initializers[name]))

    def _stored(self, name: str) -> tuple[str | None, Quantization | None]:
        """Return the initializer that an operand is, or is dequantized of, and its quantization."""
        if name in self._initializers:
            return name, None
        node = self._maker.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self._initializers:
            return None, None
        return node.input[0], self._quantization(node.input[0], [node])

    def _quantization(self, tensor: str, nodes: list[Any]) -> Quantization:
        if tensor not in self._by_tensor:
            scales = self._values(nodes[0].input[1]).reshape(-1)
            zeros = self._values(nodes[0].input[2]).reshape(-1)
            self._by_tensor[tensor] = quantization = Quantization(tensor, scales, zeros.astype(np.int64))
            self._quantizations.append((quantization, scales.copy(), zeros, nodes))
        return self._by_tensor[tensor]

    def _layer(self, node: Any) -> Layer | None:
        weights, quantization = self._stored(node.input[1]) if node.op_type in _LAYERS else (None, None)
        if weights is None:
            return None
        bias, bias_quantization = self._stored(node.input[2]) if len(node.input) > 2 else (None, None)
        transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else 1
        layer = Layer(
            name=node.output[0],
            weights=self._values(weights),
            axis=axis,
            inputs_axis=1 - axis,
            bias=None if bias is None else self._values(bias),
            quantization=quantization,
            bias_quantization=bias_quantization,
        )
        self._layer_constants.append((layer, weights, bias))
        return layer

    def _activations(self) -> list[Quantization]:
        """Return one quantization for each QuantizeLinear with its DequantizeLinear, and for the file's ends."""
        pairs: dict[str, list[Any]] = {}
        for node in self._graph.node:
            if node.op_type == "QuantizeLinear":
                pairs.setdefault(node.output[0], []).append(node)
            elif node.op_type == "DequantizeLinear" and node.input[0] not in self._initializers:
                pairs.setdefault(node.input[0], []).append(node)
        return [self._quantization(tensor, nodes) for tensor, nodes in pairs.items()]

    def parameters(self) -> list[Parameter]:
        """See `EditedModel`."""
        found = []
        for node in self._graph.node:
            name = node.output[0]
            for attribute in node.attribute:
                found += self._attribute(node, attribute, name)
            if node.op_type in _MISTAKEN:
                new = _MISTAKEN[node.op_type]
                found.append(Parameter(f"{node.op_type} as {new}", name, partial(setattr, node, "op_type", new)))
            if node.op_type == "Clip":
                found.append(Parameter("Clip without bounds", name, partial(self._without_bounds, node)))
        return found

    def _attribute(self, node: Any, attribute: Any, name: str) -> list[Parameter]:
        kind = f"{node.op_type} {attribute.name}"
        values = list(attribute.ints)
        if attribute.name == "pads" and any(values):
            half = len(values) // 2
            sides = values[half:] + values[:half]
            changes = {"other sides": sides, "none": [0] * len(values)}
            return [
                Parameter(f"{kind}, {what}", name, _ints(attribute, new))
                for what, new in changes.items()
                if new != values
            ]
        if attribute.name in ("strides", "dilations"):
            new = [3 - value for value in values] if max(values) <= 2 else [1] * len(values)
            return [Parameter(kind, name, _ints(attribute, new))]
        if attribute.name in _FACTORS:
            return [Parameter(kind, name, lambda: setattr(attribute, "f", attribute.f * _FACTORS[attribute.name]))]
        return []

    def _without_bounds(self, node: Any) -> None:
        del node.input[1:]

    def describe(self, rewrite: Rewrite) -> None:
        """See `EditedModel`."""
        entry = next(p for p in self._model.metadata_props if p.key == DESCRIPTION_KEY)
        entry.value = rewrite(entry.value)

    def finish(self) -> bytes:
        """See `EditedModel`."""
        for layer, weights, bias in self._layer_constants:
            self._put(weights, layer.weights)
            if bias is not None and layer.bias is not None:
                self._put(bias, layer.bias)
        for name, value in self.constants.items():
            if not np.array_equal(value, self._constants[name]):
                self._put(name, value)
        for quantization, scales, zeros, nodes in self._quantizations:
            if not np.array_equal(quantization.scales, scales):
                self._replace(nodes, 1, quantization.scales.astype(np.float32))
            if not np.array_equal(quantization.zeros, zeros):
                info = np.iinfo(zeros.dtype)
                self._replace(nodes, 2, quantization.zeros.clip(info.min, info.max).astype(zeros.dtype))
        return bytes(self._model.SerializeToString(deterministic=True))

    def _put(self, name: str, values: Array) -> None:
        tensor = self._initializers[name]
        before = self._values(name)
        if not np.array_equal(before, values):
            shape = before.shape
            tensor.CopyFrom(self._onnx.numpy_helper.from_array(values.astype(before.dtype).reshape(shape), name))

    def _replace(self, nodes: list[Any], operand: int, values: Array) -> None:
        """Give the nodes a constant of their own: others may share the one that they have."""
        old = self._initializers[nodes[0].input[operand]]
        name = f"{nodes[0].output[0]}/changed/{operand}"
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(values.reshape(tuple(old.dims)), name))
        for node in nodes:
            node.input[operand] = name


def _ints(attribute: Any, values: list[int]) -> Any:
    def apply() -> None:
        del attribute.ints[:]
        attribute.ints.extend(values)

    return apply
