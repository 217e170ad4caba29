"""Read what a model file says of itself without an interpreter: its description, and how its ends are quantized.

Field numbers are those of TensorFlow Lite's schema.fbs (version 3) and of onnx.proto3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mbn_deploy.manifest import DESCRIPTION_KEY, Description, FileFormat
from mbn_deploy.runtime.formats.file_end import operation_name
from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, damage_named, root
from mbn_deploy.runtime.formats.protobuf import messages, numbers, text, texts
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER, read_metadata

_TFLITE_INTEGERS = (3, 7, 9)  # TensorType: uint8, int16, int8
# Fields of ONNX's ModelProto, StringStringEntryProto, GraphProto, NodeProto, ValueInfoProto and TensorProto.
_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_READ, _WRITTEN, _OP_TYPE = 1, 2, 4
_VALUE_NAME, _DATA_TYPE, _INT32_DATA, _FLOAT_DATA, _TENSOR_NAME, _RAW_DATA = 1, 2, 5, 4, 8, 9
_ZERO_POINTS = {2: "<B", 3: "<b", 4: "<H", 5: "<h", 6: "<i"}  # TensorProto.DataType: format in `struct`
_SAME_NUMBERS = frozenset({"Transpose", "Reshape", "Identity", "Flatten"})


class Quantization(NamedTuple):
    """real = scale * (q - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class EndQuantization:
    """How the ends of a file are quantized, None where an end is not, or the file does not tell.

    Attributes:
        input: of an integer input.
        output: of an integer output.
        level: one quantization level of the output in real numbers: of an integer output, or of the integers that a
            float output is dequantized from.
    """

    input: Quantization | None = None
    output: Quantization | None = None
    level: float | None = None


def own_description(data: bytes, file_format: FileFormat, where: str) -> Description | None:
    """Return the description inside a file, None if it has none. Raises `InputError` for damaged bytes."""
    if file_format == "tflite":
        found = read_metadata(data, where).get(DESCRIPTION_KEY)
    else:
        with damage_named(where, "ONNX"):
            entries = messages(memoryview(data), _METADATA)
            values = [
                bytes(value) for e in entries if text(e, _KEY) == DESCRIPTION_KEY for value in messages(e, _VALUE)
            ]
            found = values[-1] if values else None
    return None if found is None else Description.from_json(found, where)


def end_quantization(data: bytes, file_format: FileFormat, where: str) -> EndQuantization:
    """Return the quantization of a file's first input and output. Raises `InputError` for damaged bytes."""
    with damage_named(where, "ONNX" if file_format == "onnx" else "TFLite"):
        return _onnx(memoryview(data)) if file_format == "onnx" else _tflite(data)


def _tflite(data: bytes) -> EndQuantization:
    model = root(data, IDENTIFIER)
    graphs = model.tables(2)
    if not graphs:
        raise DamagedError("there is no graph in it")
    tensors = graphs[0].tables(0)
    ends = [_first(graphs[0].numbers(field, "i")) for field in (1, 2)]
    source, output = (_tflite_quantization(tensors, end) for end in ends)
    level = None if output is None else output.scale
    codes = [operation_name(code) for code in model.tables(1)]
    for operator in graphs[0].tables(3) if output is None else ():
        code = operator.scalar(0, "I", 0)
        if code < len(codes) and codes[code] == "DEQUANTIZE" and ends[1] in operator.numbers(2, "i"):
            integers = _tflite_quantization(tensors, _first(operator.numbers(1, "i")))
            level = None if integers is None else integers.scale
    return EndQuantization(source, output, level)


def _first(indices: Sequence[float]) -> int:
    return int(indices[0]) if indices else -1


def _tflite_quantization(tensors: list[Table], index: int) -> Quantization | None:
    if not 0 <= index < len(tensors):
        raise DamagedError(f"tensor {index} is named, there are {len(tensors)}")
    params = tensors[index].table(4)
    if params is None or tensors[index].scalar(1, "b", 0) not in _TFLITE_INTEGERS:
        return None
    scales, zeros = params.numbers(2, "f"), params.numbers(3, "q")
    return Quantization(scales[0], int(zeros[0]) if zeros else 0) if scales else None


@dataclass(frozen=True)
class _Node:
    kind: str
    read: tuple[str, ...]
    written: tuple[str, ...]


def _onnx(data: memoryview) -> EndQuantization:
    graphs = messages(data, _GRAPH)
    if not graphs:
        raise DamagedError("there is no graph in it")
    graph = graphs[-1]
    constants = {text(tensor, _TENSOR_NAME): tensor for tensor in messages(graph, _INITIALIZER)}
    nodes = [
        _Node(text(node, _OP_TYPE), tuple(texts(node, _READ)), tuple(texts(node, _WRITTEN)))
        for node in messages(graph, _NODE)
    ]
    inputs = (text(value, _VALUE_NAME) for value in messages(graph, _INPUT))
    source = next((name for name in inputs if name not in constants), "")
    result = next((text(value, _VALUE_NAME) for value in messages(graph, _OUTPUT)), "")
    readers = {name: node for node in reversed(nodes) for name in node.read}
    writers = {name: node for node in nodes for name in node.written}
    level = _onnx_quantization(_dequantizer(result, writers, forward=False), constants)
    return EndQuantization(
        input=_onnx_quantization(_dequantizer(source, readers, forward=True), constants),
        level=None if level is None else level.scale,
    )


def _dequantizer(name: str, nodes: dict[str, _Node], *, forward: bool) -> _Node | None:
    """Return the DequantizeLinear next to a tensor, behind nodes that keep its numbers; None if it is another node."""
    for _ in range(len(nodes)):
        node = nodes.get(name)
        if node is None or node.kind not in _SAME_NUMBERS:
            return node if node is not None and node.kind == "DequantizeLinear" else None
        name = _first_name(node.written if forward else node.read)
    return None


def _first_name(names: Iterable[str]) -> str:
    return next(iter(names), "")


def _onnx_quantization(node: _Node | None, constants: dict[str, memoryview]) -> Quantization | None:
    if node is None:
        return None
    scale, zero_point = (constants.get(name) for name in (*node.read[1:3], "", "")[:2])
    if scale is None:
        return None
    value = _scalar(scale, "<f", _FLOAT_DATA)
    code = None if zero_point is None else _ZERO_POINTS.get(next(iter(numbers(zero_point, _DATA_TYPE)), 0))
    zero = 0 if zero_point is None or code is None else _scalar(zero_point, code, _INT32_DATA)
    return None if value is None or zero is None else Quantization(value, int(zero))


def _scalar(tensor: memoryview, code: str, field: int) -> float | None:
    """Return the only number of a constant, from its raw bytes or a packed `field`; None if it is stored otherwise."""
    raw = messages(tensor, _RAW_DATA)
    if raw and len(raw[-1]) == struct.calcsize(code):
        return float(struct.unpack(code, raw[-1])[0])
    if field == _FLOAT_DATA and (packed := messages(tensor, field)) and len(packed[-1]) == struct.calcsize(code):
        return float(struct.unpack(code, packed[-1])[0])
    return None
