"""Open a .tflite file to be damaged, through the classes that its schema generates."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from typing import Any

import numpy as np
from damage_model import Array, EditedModel, Layer, Parameter, Quantization, Rewrite

from mbn_deploy.export.tflite.builder import pack_model, schema
from mbn_deploy.export.tflite.metadata import append_files
from mbn_deploy.manifest import DESCRIPTION_KEY

_TYPES = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "INT32": "<i4",
    "UINT8": "u1",
    "INT64": "<i8",
    "INT16": "<i2",
    "INT8": "i1",
}
# Operator: (axis of output channels, axis of input channels) of its weights.
_LAYERS = {"CONV_2D": (0, 3), "DEPTHWISE_CONV_2D": (3, 3), "FULLY_CONNECTED": (0, 1)}
_WITH_CONSTANTS = ("ADD", "MUL", "SUB", "DIV", "MINIMUM", "MAXIMUM", "PRELU")
# An operator and what somebody may take for it: both have the same inputs and options.
_MISTAKEN = {
    "AVERAGE_POOL_2D": "MAX_POOL_2D", "MEAN": "REDUCE_MAX", "HARD_SWISH": "RELU6", "RELU6": "RELU", "RELU": "RELU6",
    "LOGISTIC": "HARD_SWISH", "MINIMUM": "MAXIMUM",
}  # fmt: skip
# Options of operators: field, what it becomes by what it is.
_OPTIONS: dict[str, dict[Any, Any]] = {
    "strideH": {1: 2, 2: 1}, "strideW": {1: 2, 2: 1}, "padding": {0: 1, 1: 0}, "dilationHFactor": {1: 2},
    "dilationWFactor": {1: 2}, "fusedActivationFunction": {0: 1, 1: 3, 3: 1},
    "alignCorners": {False: True, True: False}, "halfPixelCenters": {False: True, True: False},
}  # fmt: skip
_FACTORS = {"beta": 0.5, "alpha": 4.0, "epsilon": 1e4}


class TFLiteModel(EditedModel):
    """The first graph of a file that this project wrote, with Google's associated files behind it."""

    def __init__(self, data: bytes) -> None:
        self._schema = schema()
        self._types = {v: k for k, v in vars(self._schema.TensorType).items() if isinstance(v, int)}
        self._codes = {v: k for k, v in vars(self._schema.BuiltinOperator).items() if isinstance(v, int)}
        self._model = self._schema.ModelT.InitFromPackedBuf(bytearray(data))
        self._graph = self._model.subgraphs[0]
        self._buffers = [None if b.data is None else np.asarray(b.data, np.uint8) for b in self._model.buffers]
        self.files = _files_behind(data)
        self._read: list[tuple[int, Array]] = []  # tensors of layers, so that only these are written back
        self._quantizations: dict[int, Quantization] = {}
        self._layer_tensors: list[tuple[Layer, int, int | None]] = []
        self.layers = [layer for op in self._graph.operators if (layer := self._layer(op)) is not None]
        self.constants = self._operands()
        computed = [i for i in range(len(self._graph.tensors)) if self._data(i) is None]
        self.activations = [q for i in computed if (q := self._quantization(i)) is not None]

    def _kind(self, op: Any) -> str:
        return str(self._codes[self._model.operatorCodes[op.opcodeIndex].builtinCode])

    def _data(self, index: int) -> Array | None:
        tensor = self._graph.tensors[index]
        data = self._buffers[tensor.buffer]
        return None if data is None else data.view(_TYPES[self._types[tensor.type]]).reshape(tuple(tensor.shape))

    def _constant(self, index: int) -> Array:
        return np.array(self._data(index))

    def _stored(self, index: int) -> int | None:
        """Return the constant tensor that an operand is, or is dequantized of (in float16 files)."""
        if index < 0 or self._data(index) is not None:
            return index if index >= 0 else None
        maker = next((op for op in self._graph.operators if index in op.outputs), None)
        if maker is None or self._kind(maker) != "DEQUANTIZE" or self._data(maker.inputs[0]) is None:
            return None
        return int(maker.inputs[0])

    def _quantization(self, index: int) -> Quantization | None:
        if index not in self._quantizations:
            tensor = self._graph.tensors[index]
            stored = tensor.quantization
            if stored is None or stored.scale is None or not len(stored.scale):
                return None
            zeros = np.zeros(len(stored.scale), np.int64) if stored.zeroPoint is None else stored.zeroPoint
            self._quantizations[index] = Quantization(_text(tensor.name), np.array(stored.scale), np.array(zeros))
        return self._quantizations[index]

    def _layer(self, op: Any) -> Layer | None:
        kind = self._kind(op)
        weights = self._stored(op.inputs[1]) if kind in _LAYERS else None
        if weights is None:
            return None
        bias = self._stored(op.inputs[2]) if len(op.inputs) > 2 else None
        layer = Layer(
            name=_text(self._graph.tensors[op.outputs[0]].name),
            weights=self._constant(weights),
            axis=_LAYERS[kind][0],
            inputs_axis=_LAYERS[kind][1],
            bias=None if bias is None else self._constant(bias),
            quantization=self._quantization(weights),
            bias_quantization=None if bias is None else self._quantization(bias),
        )
        self._layer_tensors.append((layer, weights, bias))
        return layer

    def _operands(self) -> dict[str, Array]:
        found = {}
        self._operand_tensors: dict[str, int] = {}
        for op in self._graph.operators:
            for index in op.inputs if self._kind(op) in _WITH_CONSTANTS else ():
                stored = self._stored(int(index))
                if stored is not None:
                    name = _text(self._graph.tensors[stored].name)
                    found[name], self._operand_tensors[name] = self._constant(stored), stored
        return found

    def parameters(self) -> list[Parameter]:
        """See `EditedModel`."""
        found = []
        for op in self._graph.operators:
            kind, name = self._kind(op), _text(self._graph.tensors[op.outputs[0]].name)
            found += self._options(op, kind, name)
            if kind in _MISTAKEN:
                found.append(Parameter(f"{kind} as {_MISTAKEN[kind]}", name, partial(self._mistake, op, kind)))
            if kind == "PAD":
                found.append(Parameter("PAD other sides", name, partial(self._other_sides, op)))
        return found

    def _options(self, op: Any, kind: str, name: str) -> list[Parameter]:
        options, found = op.builtinOptions, []
        for field, becomes in _OPTIONS.items():
            value = getattr(options, field, None)
            if value in becomes and not (field == "fusedActivationFunction" and value == 0 and kind not in _LAYERS):
                new = becomes[value]
                found.append(Parameter(f"{kind} {field}", name, partial(setattr, options, field, new)))
        for field, factor in _FACTORS.items():
            if isinstance(value := getattr(options, field, None), float):
                new = value * factor
                found.append(Parameter(f"{kind} {field}", name, partial(setattr, options, field, new)))
        return found

    def _mistake(self, op: Any, kind: str) -> None:
        code = self._schema.OperatorCodeT()
        number = getattr(self._schema.BuiltinOperator, _MISTAKEN[kind])
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        if "int8" in {t.lower() for t in (self._types[self._graph.tensors[i].type] for i in op.outputs)}:
            code.version = 2
        self._model.operatorCodes.append(code)
        op.opcodeIndex = len(self._model.operatorCodes) - 1

    def _other_sides(self, op: Any) -> None:
        self._put(int(op.inputs[1]), self._constant(op.inputs[1])[:, ::-1])

    def describe(self, rewrite: Rewrite) -> None:
        """See `EditedModel`."""
        entry = next(m for m in self._model.metadata if _text(m.name) == DESCRIPTION_KEY)
        said = np.asarray(self._buffers[entry.buffer]).tobytes().decode()
        self._buffers[entry.buffer] = np.frombuffer(rewrite(said).encode(), np.uint8)

    def finish(self) -> bytes:
        """See `EditedModel`."""
        for layer, weights, bias in self._layer_tensors:
            self._put(weights, layer.weights)
            if bias is not None and layer.bias is not None:
                self._put(bias, layer.bias)
        for name, index in self._operand_tensors.items():
            self._put(index, self.constants[name])
        for index, quantization in self._quantizations.items():
            stored = self._graph.tensors[index].quantization
            stored.scale = quantization.scales.astype(np.float32)
            stored.zeroPoint = quantization.zeros.astype(np.int64)
        return append_files(pack_model(self._model, self._buffers), self.files)

    def _put(self, index: int, values: Array) -> None:
        tensor = self._graph.tensors[index]
        data = np.ascontiguousarray(values, dtype=_TYPES[self._types[tensor.type]]).reshape(-1).view(np.uint8)
        before = self._buffers[tensor.buffer]
        if before is not None and np.array_equal(before, data):
            return
        users = sum(other.buffer == tensor.buffer for other in self._graph.tensors)
        if users == 1:
            self._buffers[tensor.buffer] = data
        else:
            self._buffers.append(data)
            tensor.buffer = len(self._buffers) - 1


def _files_behind(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return {}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
