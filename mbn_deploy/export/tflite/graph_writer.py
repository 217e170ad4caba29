"""The state of a .tflite file while it is written: where each tensor of the graph is in the file, and in what form.

Tensors of rank 2 are kept as (N, 1, 1, C) until the last op, and a dense layer is a 1x1 convolution: interpreters
before 2.15 do not understand per-channel int8 weights of FULLY_CONNECTED (they silently use one scale for all
channels), but all understand those of CONV_2D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mbn_deploy.export.tflite.builder import ModelBuilder
from mbn_deploy.export.tflite.operators import DEQUANTIZE_VERSIONS, OPERATORS, QUANTIZE_VERSIONS, ComputeType
from mbn_deploy.export.tflite.storage import Float32Storage
from mbn_deploy.graph.graph import Graph, Op, Shape
from mbn_deploy.graph.quantized import UNSIGNED_SHIFT
from mbn_deploy.version import __version__

StoredType = ComputeType | Literal["uint8"]

SIGNATURE_INPUT, SIGNATURE_OUTPUT = "image", "scores"
# ActivationFunctionType of the schema. The clip to [0, 1] is the saturation of the integers, in int16 at its upper end.
FUSED_ACTIVATIONS = {"none": 0, "relu": 1, "relu6": 3, "unit": 0}
_FUSED_INT16 = FUSED_ACTIVATIONS | {"unit": FUSED_ACTIVATIONS["relu"]}


class GraphWriter:
    """One .tflite file being written.

    `indices`, `types` and `shapes` say for each tensor of the graph which tensor of the file holds it, whether as
    floats or integers, and in what shape.
    """

    def __init__(self, graph: Graph, storage: Float32Storage) -> None:
        self.graph, self.storage = graph, storage
        self.build = ModelBuilder(graph.name)
        self.indices: dict[str, int] = {}
        self.types: dict[str, StoredType] = {}
        self.shapes: dict[str, Shape] = {}
        self._writers = graph.writers()
        self._converted: dict[tuple[str, ComputeType], int] = {}

    # The two ends of the file

    def boundary(self, name: str, shape: Shape, dtype: str, scale: float = 1.0, zero_point: int = 0) -> int:
        """Add an input or output tensor of the file in the type that the caller wants to see."""
        if dtype == "float32":
            return self.build.tensor(name, shape, "float32")
        shift = UNSIGNED_SHIFT if dtype == "uint8" else 0
        return self.build.tensor(name, shape, dtype, scale=[scale], zero_point=zero_point + shift)

    def set_input(self, index: int, stored_type: StoredType) -> None:
        """Take tensor `index` of the file as the graph's input."""
        self.record(self.graph.input, index, stored_type, self.graph.shapes[self.graph.input])

    def finish(self, source: int, result: int, metadata: Mapping[str, bytes] | None) -> bytes:
        """Return the file's bytes, with the tensors `source` and `result` as input and output."""
        description = f"{self.graph.name}, written by mbn-deploy {__version__}"
        return self.build.finish({SIGNATURE_INPUT: source}, {SIGNATURE_OUTPUT: result}, metadata or {}, description)

    # What an op reads and writes

    def compute_type(self, op: Op) -> ComputeType:
        """Return the type of the activations that `op` computes on."""
        return self.storage.compute_type(op)

    def source(self, op: Op, at: int = 0) -> int:
        """Return the op's input number `at` in the type that it computes in, converted where it has another."""
        name, wanted = op.inputs[at], self.compute_type(op)
        if self.types[name] == wanted:
            return self.indices[name]
        if (name, wanted) not in self._converted:
            self._converted[name, wanted] = self._convert(name, op)
        return self._converted[name, wanted]

    def shaped_source(self, op: Op, at: int = 0) -> int:
        """Return the op's input number `at` in the shape in which the file usually keeps such tensors.

        The result of a softmax is kept as (N, C), beside others that are (N, 1, 1, C).
        """
        name, source = op.inputs[at], self.source(op, at)
        shape = self.shape_in_file(name)
        if self.build.shape(source) == shape:
            return source
        moved = self.tensor(op, f"{name}/{op.output}/moved", shape, name)
        self.reshape(op, source, moved, f"{name}/{op.output}/shape")
        return moved

    def source_as_result(self, op: Op, at: int = 0) -> int:
        """Return `shaped_source` with the output's parameters, behind a QUANTIZE where it has others."""
        name, source, wanted = op.inputs[at], self.shaped_source(op, at), self.compute_type(op)
        if wanted == "float" or self.storage.has_params_of_output(op, name):
            return source
        result = self.tensor(op, f"{name}/{op.output}", self.shape_in_file(name))
        self.quantize(source, result, wanted)
        return result

    def _convert(self, name: str, reader: Op) -> int:
        shape, wanted = self.shapes[name], self.compute_type(reader)
        if wanted == "float":
            result = self.build.tensor(f"{name}/float", shape, "float32")
            self.dequantize(self.indices[name], result, self.types[name])
        else:
            result = self.storage.quantized_tensor(self.build, f"{name}/{wanted}", reader, name, shape)
            self.quantize(self.indices[name], result, wanted)
        return result

    def dequantize(self, source: int, result: int, source_type: StoredType) -> None:
        """Append a DEQUANTIZE of integers of `source_type`."""
        version = DEQUANTIZE_VERSIONS[source_type]
        self.build.operator("DEQUANTIZE", [source], [result], version, options_type="DequantizeOptions")

    def quantize(self, source: int, result: int, result_type: str) -> None:
        """Append a QUANTIZE to integers of `result_type`."""
        version = QUANTIZE_VERSIONS[result_type]
        self.build.operator("QUANTIZE", [source], [result], version, options_type="QuantizeOptions")

    def result(self, op: Op, shape: Shape | None = None) -> int:
        """Add the op's output tensor, of `shape` if that is not how the file usually keeps it."""
        shape = shape or self.shape_in_file(op.output)
        return self.record(op.output, self.tensor(op, op.output, shape), self.compute_type(op), shape)

    def alias(self, op: Op) -> None:
        """Let the op's output be its input: the op changes nothing in the file."""
        self.record(op.output, self.source(op), self.compute_type(op), self.shapes[op.inputs[0]])

    def record(self, name: str, index: int, stored_type: StoredType, shape: Shape) -> int:
        """Note that tensor `index` of the file holds the tensor `name` of the graph; return `index`."""
        self.indices[name], self.types[name], self.shapes[name] = index, stored_type, shape
        return index

    def tensor(self, op: Op, name: str, shape: Shape, params_of: str = "") -> int:
        """Add a tensor of the type that `op` computes in; its parameters are those of `params_of` or the output."""
        if self.compute_type(op) == "float":
            return self.build.tensor(name, shape, "float32")
        return self.storage.quantized_tensor(self.build, name, op, params_of or op.output, shape)

    def int32_constant(self, name: str, values: Any) -> int:
        """Add a constant of integers: a shape, axes, amounts of padding."""
        data = np.array(values, np.int32)
        return self.build.tensor(name, data.shape, "int32", data=data)

    # Operators

    def fused_activation(self, op: Op) -> int:
        """Return the schema's number of the op's activation."""
        return (_FUSED_INT16 if self.compute_type(op) == "int16" else FUSED_ACTIVATIONS)[op.activation]

    def emit(
        self, op: Op, code: str, inputs: Sequence[int], output: int, *, hybrid: bool = False, **options: Any
    ) -> None:
        """Append the operator `code` as a part of `op`; `options` are fields of its options table."""
        operator = OPERATORS[code]
        version = operator.hybrid_version if hybrid else operator.version(self.compute_type(op))
        self.build.operator(code, inputs, [output], version, options_type=operator.options, **options)

    # Shapes

    def shape_in_file(self, name: str) -> Shape:
        """Return the shape that the file keeps a tensor in: (N, C) as (N, 1, 1, C)."""
        shape = self.graph.shapes[name]
        return (shape[0], 1, 1, shape[1]) if len(shape) == 2 else shape

    def in_graph_shape(self, name: str) -> int:
        """Return the tensor in the shape that the graph says, behind a RESHAPE where the file keeps another one."""
        wanted = self.graph.shapes[name]
        if self.shapes[name] == wanted:
            return self.indices[name]
        op = self._writers[name]
        reshaped = self.tensor(op, name, wanted)
        self.reshape(op, self.indices[name], reshaped, f"{name}/shape")
        return reshaped

    def reshape(self, op: Op, source: int, result: int, constant_name: str) -> None:
        """Append a RESHAPE to the shape of `result`."""
        shape = self.build.shape(result)
        constant = self.int32_constant(constant_name, shape)
        self.emit(op, "RESHAPE", [source, constant], result, newShape=np.array(shape, np.int32))
