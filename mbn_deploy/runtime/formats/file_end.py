"""The operation that computes a model file's answers, as far as the file's operations tell it.

Operations that keep the numbers (reshapes, conversions between integers and real numbers) are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.formats import protobuf
from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, damage_named, root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER

EndKind = Literal["softmax", "sigmoid", "log_softmax", "linear", "other"]

# BuiltinOperator of TensorFlow Lite's schema.fbs: the names of the operations that are told apart here.
_TFLITE: Mapping[int, str] = {
    1: "AVERAGE_POOL_2D",
    3: "CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    11: "L2_NORMALIZATION",
    14: "LOGISTIC",
    22: "RESHAPE",
    25: "SOFTMAX",
    40: "MEAN",
    43: "SQUEEZE",
    50: "LOG_SOFTMAX",
    53: "CAST",
    114: "QUANTIZE",
}
_PASSED_TFLITE = frozenset({"DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST", "QUANTIZE"})
_PASSED_ONNX = frozenset(
    {"DequantizeLinear", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity"}
)
_KINDS: Mapping[str, EndKind] = {
    **dict.fromkeys(("SOFTMAX", "Softmax", "QLinearSoftmax"), "softmax"),
    **dict.fromkeys(("LOGISTIC", "Sigmoid", "QLinearSigmoid", "HardSigmoid"), "sigmoid"),
    **dict.fromkeys(("LOG_SOFTMAX", "LogSoftmax"), "log_softmax"),
    **dict.fromkeys(("FULLY_CONNECTED", "CONV_2D", "Gemm", "QGemm", "MatMul", "QLinearMatMul", "Conv"), "linear"),
    **dict.fromkeys(("QLinearConv", "MatMulInteger"), "linear"),
}
_BIASED = frozenset(("Add", "QLinearAdd"))  # in ONNX a dense layer may be a MatMul and an Add


@dataclass(frozen=True)
class FileEnd:
    """The operation that computes the answers: its kind, and its name in the file's format."""

    kind: EndKind
    operation: str


@dataclass(frozen=True)
class _Writer:
    """An operation of a file, with the tensors that it reads."""

    operation: str
    inputs: tuple[str, ...]


def file_end(data: bytes, file_format: FileFormat, where: str) -> FileEnd:
    """Return how a model file ends. Raises `InputError` that names `where` for a damaged file."""
    with damage_named(where):
        writers, output = _tflite_writers(data) if file_format == "tflite" else _onnx_writers(data)
        for _ in range(len(writers)):
            writer = writers.get(output)
            if writer is None or writer.operation not in _PASSED_TFLITE | _PASSED_ONNX:
                break
            output = writer.inputs[0] if writer.inputs else ""
        writer = writers.get(output)
        if writer is None:
            return FileEnd("other", "no operation")
        if writer.operation in _BIASED:
            writer = next(filter(None, map(_dense(writers).get, writer.inputs)), writer)
        return FileEnd(_KINDS.get(writer.operation, "other"), writer.operation)


def before_answers(operations: Sequence[str]) -> int:
    """Return the position of the operation whose result goes into the last softmax or sigmoid.

    Args:
        operations: the names of a file's operations, in their order, at least one.

    Returns:
        The position of the last operation if the file ends in neither: its answers are not squeezed into [0, 1].
    """
    for index in range(len(operations) - 1, 0, -1):
        if operations[index] not in _PASSED_TFLITE | _PASSED_ONNX:
            squeezed = _KINDS.get(operations[index]) in ("softmax", "sigmoid", "log_softmax")
            return index - 1 if squeezed else len(operations) - 1
    return len(operations) - 1


def _dense(writers: Mapping[str, _Writer]) -> dict[str, _Writer]:
    return {name: writer for name, writer in writers.items() if _KINDS.get(writer.operation) == "linear"}


def _tflite_writers(data: bytes) -> tuple[dict[str, _Writer], str]:
    """Return the operations of a file's first graph by the tensor that they write, and the output tensor."""
    model = root(data, IDENTIFIER)
    codes, graphs = model.tables(1), model.tables(2)
    if not graphs:
        raise DamagedError("there is no graph in it")
    writers: dict[str, _Writer] = {}
    for operator in graphs[0].tables(3):
        index = operator.scalar(0, "I", 0)
        if index >= len(codes):
            raise DamagedError(f"operator code {index} is named, there are {len(codes)}")
        inputs = tuple(str(int(number)) for number in operator.numbers(1, "i"))
        writer = _Writer(operation_name(codes[index]), inputs)
        writers.update((str(int(number)), writer) for number in operator.numbers(2, "i"))
    outputs = graphs[0].numbers(2, "i")
    return writers, str(int(outputs[0])) if outputs else ""


def operation_name(code: Table) -> str:
    """Return the name of an operator code of a .tflite file, or its number if it is not told apart here."""
    # Codes above 127 are in a second field; the first then holds 127.
    number = max(code.scalar(0, "b", 0), code.scalar(3, "i", 0))
    return _TFLITE.get(number, f"operation {number}")


def _onnx_writers(data: bytes) -> tuple[dict[str, _Writer], str]:
    """Return the operations of a file's graph by the tensor that they write, and the output tensor.

    Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.node 1, output 12; NodeProto.input 1,
    output 2, op_type 4; ValueInfoProto.name 1.
    """
    graphs = protobuf.messages(memoryview(data), 7)
    if not graphs:
        raise DamagedError("there is no graph in it")
    writers: dict[str, _Writer] = {}
    for node in protobuf.messages(graphs[-1], 1):
        writer = _Writer(protobuf.text(node, 4), tuple(protobuf.texts(node, 1)))
        writers.update(dict.fromkeys(protobuf.texts(node, 2), writer))
    outputs = protobuf.messages(graphs[-1], 12)
    return writers, protobuf.text(outputs[0], 1) if outputs else ""
