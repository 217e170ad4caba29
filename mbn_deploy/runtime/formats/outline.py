"""Read the outline of a .tflite or .onnx file: its inputs, its outputs and the operations that are not standard.

This needs no interpreter, so it also works on files that none here can run. Field numbers are those of TensorFlow
Lite's schema.fbs (version 3) and of onnx.proto3.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, damage_named, root
from mbn_deploy.runtime.formats.protobuf import messages, numbers, text
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER, MOST_AXES, axis_lengths

OPEN = -1  # the length of an axis that the file leaves open
_TFLITE_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16",
    8: "complex64", 9: "int8", 10: "float64", 15: "uint32", 16: "uint16",
}  # fmt: skip
_ONNX_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
# Fields of ONNX's ModelProto, GraphProto, NodeProto, ValueInfoProto, TypeProto, TensorProto and TensorShapeProto.
_GRAPH, _NODE, _INITIALIZER, _INPUT, _OUTPUT = 7, 1, 5, 11, 12
_OP_TYPE, _DOMAIN, _VALUE_NAME, _TENSOR_NAME, _TYPE = 4, 7, 1, 8, 2
_TENSOR_TYPE, _ELEMENT, _SHAPE, _DIMENSION, _LENGTH = 1, 1, 2, 1, 1
_STANDARD_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class TensorOutline:
    """An input or output: `shape` has `OPEN` where the file leaves a length open; None if it states no shape."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str


@dataclass(frozen=True)
class FileOutline:
    """A file's inputs, outputs and custom operations, those that are not of TFLite's or ONNX's standard."""

    inputs: tuple[TensorOutline, ...]
    outputs: tuple[TensorOutline, ...]
    custom: tuple[str, ...] = ()


def read_outline(data: bytes, file_format: FileFormat, where: str) -> FileOutline:
    """Return the outline of a file's first graph. Raises `InputError` that names `where` for damaged bytes."""
    with damage_named(where, "ONNX" if file_format == "onnx" else "TFLite"):
        return _onnx(memoryview(data)) if file_format == "onnx" else _tflite(data)


def _tflite(data: bytes) -> FileOutline:
    model = root(data, IDENTIFIER)
    graphs = model.tables(2)
    if not graphs:
        raise DamagedError("there is no graph in it")
    tensors = graphs[0].tables(0)
    return FileOutline(
        inputs=tuple(_tflite_tensor(tensors, int(index)) for index in graphs[0].numbers(1, "i")),
        outputs=tuple(_tflite_tensor(tensors, int(index)) for index in graphs[0].numbers(2, "i")),
        custom=tuple(dict.fromkeys(name for code in model.tables(1) if (name := code.text(1)))),
    )


def _tflite_tensor(tensors: list[Table], index: int) -> TensorOutline:
    if not 0 <= index < len(tensors):
        raise DamagedError(f"tensor {index} is named, there are {len(tensors)}")
    tensor = tensors[index]
    shape = axis_lengths(tensor, 7) or axis_lengths(tensor, 0)
    dtype = _TFLITE_TYPES.get(tensor.scalar(1, "b", 0), "unknown")
    return TensorOutline(tensor.text(3), shape, dtype)


def _onnx(data: memoryview) -> FileOutline:
    graphs = messages(data, _GRAPH)
    if not graphs:
        raise DamagedError("there is no graph in it")
    graph = graphs[-1]
    constants = {text(tensor, _TENSOR_NAME) for tensor in messages(graph, _INITIALIZER)}
    inputs = [_onnx_tensor(value) for value in messages(graph, _INPUT)]
    own = [node for node in messages(graph, _NODE) if text(node, _DOMAIN) not in _STANDARD_DOMAINS]
    return FileOutline(
        # Files before IR version 4 list the constants among the inputs.
        inputs=tuple(tensor for tensor in inputs if tensor.name not in constants),
        outputs=tuple(_onnx_tensor(value) for value in messages(graph, _OUTPUT)),
        custom=tuple(dict.fromkeys(f"{text(node, _DOMAIN)}.{text(node, _OP_TYPE)}" for node in own)),
    )


def _onnx_tensor(value: memoryview) -> TensorOutline:
    shape: tuple[int, ...] | None = None
    element = 0
    for kind in messages(value, _TYPE):
        for tensor in messages(kind, _TENSOR_TYPE):
            element = next(reversed(numbers(tensor, _ELEMENT)), element)
            for dimensions in messages(tensor, _SHAPE):
                lengths = messages(dimensions, _DIMENSION)
                if len(lengths) > MOST_AXES:
                    raise DamagedError(f"the value {text(value, _VALUE_NAME)!r:.80} has {len(lengths)} axes")
                shape = tuple(map(_length, lengths))
    return TensorOutline(text(value, _VALUE_NAME), shape, _ONNX_TYPES.get(element, "unknown"))


def _length(dimension: memoryview) -> int:
    lengths = numbers(dimension, _LENGTH)
    # A length of 0 or below stands for an open one in files of some exporters.
    return lengths[-1] if lengths and 0 < lengths[-1] < 2**31 else OPEN
