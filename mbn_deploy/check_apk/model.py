"""Read what a model file in an app says of itself, from its bytes and without an interpreter."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from mbn_deploy.answers import Answers
from mbn_deploy.check_apk.archive import MAGIC
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import DESCRIPTION_KEY, Description, TensorInfo
from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, damage_named, root
from mbn_deploy.runtime.formats.protobuf import messages, numbers, text
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER, axis_lengths, read_metadata
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, google_metadata
from mbn_deploy.runtime.labels import mismatch

ModelKind = Literal["tflite", "onnx", "ort", "task"]
HEAD_BYTES = 64  # what `kind_of` needs of a file

_SUFFIXES: dict[str, ModelKind] = {".tflite": "tflite", ".onnx": "onnx", ".ort": "ort", ".task": "task"}
_ORT_IDENTIFIER = b"ORTM"
_LFS = b"version https://git-lfs"
# A ModelProto begins with ir_version, a small number, and then the producer's name, the graph or the operator sets.
_ONNX_START = re.compile(rb"\x08[\x03-\x1f][\x12\x3a\x42]", re.DOTALL)

# TensorType of TensorFlow Lite's schema.fbs; TensorProto.DataType of onnx.proto3.
_TFLITE_TYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
    "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16",
)  # fmt: skip
_ONNX_TYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
)  # fmt: skip
# Field numbers of onnx.proto3: ModelProto, GraphProto, ValueInfoProto, TypeProto, Tensor, TensorShapeProto, Dimension.
_GRAPH, _PROPERTIES, _KEY, _VALUE = 7, 14, 1, 2
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _ELEMENT, _SHAPE, _DIMENSION, _LENGTH = 1, 2, 1, 1, 2, 1, 1
_TENSOR_NAME = 8


@dataclass(frozen=True)
class ArchivedModel:
    """A model's inputs and outputs, the labels and the names of the metadata inside, and contradictions among them.

    `answers` is what the file's own description says of its outputs; classes without one. In shapes -1 stands for a
    dimension that is not fixed. Scales and zero points are not read.
    """

    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    metadata: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    answers: Answers = field(default_factory=Answers)
    problems: tuple[str, ...] = ()

    @property
    def classes(self) -> int | None:
        """The number of answers of the only output; None for models that have several outputs."""
        if len(self.outputs) != 1:
            return None
        return max(self.outputs[0].shape[1:], default=0) or None


def kind_of(name: str, head: bytes) -> ModelKind | None:
    """Tell the kind of a model file from its first bytes, else from its name; None for other files."""
    named = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if head[4:8] == IDENTIFIER:
        return "tflite"
    if head[4:8] == _ORT_IDENTIFIER:
        return "ort"
    if named is None and _ONNX_START.match(head):
        return "onnx"
    return named


def kind_is_sure(name: str, kind: ModelKind) -> bool:
    """Return whether the name confirms the kind, or the first bytes cannot mean anything else."""
    return kind != "onnx" or _SUFFIXES.get(PurePosixPath(name).suffix.lower()) == kind


def read_model(kind: ModelKind, data: bytes, where: str) -> ArchivedModel:
    """Read a .tflite or .onnx file; of other kinds only the first bytes are checked. Raises `InputError` if damaged."""
    if data.startswith(_LFS):
        raise InputError(f"{where}: a Git LFS pointer, not the model; run `git lfs pull` before the build")
    if kind == "tflite":
        return _read_tflite(data, where)
    if kind == "onnx":
        with damage_named(where, "ONNX"):
            return _read_onnx(memoryview(data), where)
    if kind == "ort" and data[4:8] != _ORT_IDENTIFIER:
        raise InputError(f"{where}: damaged, or not an ONNX Runtime file")
    if kind == "task" and not data.startswith(MAGIC):
        raise InputError(f"{where}: damaged, or not a MediaPipe .task file (a zip archive)")
    return ArchivedModel()


def _read_tflite(data: bytes, where: str) -> ArchivedModel:
    metadata = read_metadata(data, where)
    with damage_named(where):
        graph = root(data, IDENTIFIER).tables(2)[0]
        tensors = graph.tables(0)
        inputs = tuple(_tflite_tensor(tensors[int(index)]) for index in graph.numbers(1, "i"))
        outputs = tuple(_tflite_tensor(tensors[int(index)]) for index in graph.numbers(2, "i"))
    own = _own_description(metadata.get(DESCRIPTION_KEY), where)
    google = None
    if GOOGLE_KEY in metadata:
        google = google_metadata(metadata[GOOGLE_KEY], data, where).labels
    names = tuple(name for name in metadata if name in (DESCRIPTION_KEY, GOOGLE_KEY))
    return _with_labels(ArchivedModel(inputs, outputs, names), own, google)


def _tflite_tensor(tensor: Table) -> TensorInfo:
    code = tensor.scalar(1, "b", 0)
    shape = axis_lengths(tensor, 0)
    return TensorInfo(tensor.text(3), shape, _named(_TFLITE_TYPES, code))


def _read_onnx(data: memoryview, where: str) -> ArchivedModel:
    graph = memoryview(b"".join(messages(data, _GRAPH)))
    if not messages(graph, _NODE):
        raise DamagedError("it has no graph")
    constants = {text(tensor, _TENSOR_NAME) for tensor in messages(graph, _INITIALIZER)}
    inputs = tuple(t for t in map(_onnx_tensor, messages(graph, _INPUT)) if t.name not in constants)
    outputs = tuple(map(_onnx_tensor, messages(graph, _OUTPUT)))
    properties = {text(entry, _KEY): entry for entry in messages(data, _PROPERTIES)}
    described = properties.get(DESCRIPTION_KEY)
    own = None if described is None else _own_description(text(described, _VALUE).encode(), where)
    return _with_labels(ArchivedModel(inputs, outputs, tuple(properties)), own, None)


def _onnx_tensor(value: memoryview) -> TensorInfo:
    kind = memoryview(b"".join(messages(memoryview(b"".join(messages(value, _VALUE_TYPE))), _TENSOR_TYPE)))
    code = next(reversed(numbers(kind, _ELEMENT)), 0)
    lengths = [numbers(d, _LENGTH) for shape in messages(kind, _SHAPE) for d in messages(shape, _DIMENSION)]
    shape = tuple(found[-1] if found else -1 for found in lengths)
    return TensorInfo(text(value, _VALUE_NAME), shape, _named(_ONNX_TYPES, code))


def _named(types: tuple[str, ...], code: int) -> str:
    return types[code] if 0 <= code < len(types) else f"type {code}"


def _own_description(description: bytes | None, where: str) -> Description | None:
    return None if description is None else Description.from_json(description, where)


def _with_labels(info: ArchivedModel, own: Description | None, google: tuple[str, ...] | None) -> ArchivedModel:
    """Add the labels and what the answers mean, and find contradictions between them and the outputs."""
    problems = []
    labels = google if own is None or own.labels is None else own.labels
    answers = Answers() if own is None or info.classes is None else own.answers(info.classes)
    if own is not None and own.labels is not None and google is not None and own.labels != google:
        problems.append(f"its labels in {DESCRIPTION_KEY!r} and in {GOOGLE_KEY} differ")
    if labels is not None and info.classes is not None:
        wrong = mismatch(labels, answers, info.classes, "inside")
        problems += [] if wrong is None else [wrong]
    return replace(info, labels=labels, answers=answers, problems=tuple(problems))
