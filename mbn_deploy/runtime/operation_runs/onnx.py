"""Run an .onnx file to which the results of its ops are appended as outputs (see `open`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.backends.onnx import open_session
from mbn_deploy.runtime.formats.flatbuffer import damage_named
from mbn_deploy.runtime.formats.protobuf import encoded, messages, text, texts
from mbn_deploy.runtime.operation_runs.operation import Operation

# Field numbers of onnx.proto3: ModelProto, GraphProto, NodeProto, TensorProto and ValueInfoProto.
_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
_READ, _WRITTEN, _OP_TYPE = 1, 2, 4
_TENSOR_NAME, _VALUE_NAME = 8, 1
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Node:
    """A node with the tensors that it reads, constants left out, and the first one that it writes."""

    kind: str
    read: tuple[str, ...]
    written: str


class OnnxOperations:
    """An .onnx file in a session. See `Operations`.

    ONNX Runtime fuses DequantizeLinear, op, QuantizeLinear and a Clip of integers after them into one integer kernel.
    So that it still does, only the integers that a DequantizeLinear reads become outputs of a quantized file.
    """

    def __init__(self, data: bytes, threads: int, where: str, count: int | None = None) -> None:
        self._where = where
        with damage_named(where, "ONNX"):
            nodes, outputs = data_nodes(data)
        requested = _requested(nodes)[:count]
        self.operations = tuple(operation for _, operation in requested)
        self._names = [name for name, _ in requested]
        more = b"".join(encoded(_OUTPUT, encoded(_VALUE_NAME, n.encode())) for n in self._names if n not in outputs)
        # Messages of one field are merged, and lists in them joined, when the bytes are read.
        self._session = open_session(data + encoded(_GRAPH, more), threads, where)
        self._source = self._session.get_inputs()[0].name

    def run(self, values: Array) -> list[Array]:
        """Return the result of each operation; see `Operations`."""
        try:
            results = self._session.run(self._names, {self._source: values})
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"{self._where}: onnxruntime failed on it: {error}") from error
        return [np.moveaxis(value, 1, -1) if value.ndim == 4 else value for value in results]


def sampled_operations(data: bytes, where: str) -> list[Operation]:
    """Return the ops of a file whose results `OnnxOperations` returns; raises `InputError` for damaged bytes."""
    with damage_named(where, "ONNX"):
        return [operation for _, operation in _requested(data_nodes(data)[0])]


def data_nodes(data: bytes) -> tuple[list[Node], set[str]]:
    """Return the nodes that depend on the input, in the order of the file, and the names of the outputs."""
    graph = memoryview(b"".join(bytes(part) for part in messages(memoryview(data), _GRAPH)))
    constants = {text(tensor, _TENSOR_NAME) for tensor in messages(graph, _INITIALIZER)}
    nodes = []
    for node in messages(graph, _NODE):
        read = tuple(name for name in texts(node, _READ) if name not in constants)
        written = texts(node, _WRITTEN)
        if read and written:
            nodes.append(Node(text(node, _OP_TYPE), read, written[0]))
        else:
            constants.update(written)
    return nodes, {text(output, _VALUE_NAME) for output in messages(graph, _OUTPUT)}


def _requested(nodes: list[Node]) -> list[tuple[str, Operation]]:
    """Return the names of the tensors to be outputs, each with the op that computes it."""
    writers = {node.written: node for node in nodes}
    integers = {node.read[0] for node in nodes if node.kind == _DEQUANTIZE and node.read[0] in writers}
    if not integers:
        return [(node.written, Operation(node.kind, node.written)) for node in nodes]
    return [(n.written, _quantized_op(n, writers)) for n in nodes if n.written in integers]


def _quantized_op(node: Node, writers: dict[str, Node]) -> Operation:
    """Return the op whose result `node` quantizes, before the QuantizeLinear and a Clip after it."""
    written = node.written
    while node.kind in (_QUANTIZE, "Clip") and node.read[0] in writers:
        node = writers[node.read[0]]
    return Operation(node.kind, written)
