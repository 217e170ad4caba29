"""Reading .onnx files back.

In quantized files of the QDQ form, DequantizeLinear, an op and QuantizeLinear together are one integer op, as
runtimes see it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError
from mbn_deploy.export.file_report import FLOAT_TYPES, FileReport, OpReport, TensorReport, file_precision
from mbn_deploy.export.onnx.builder import onnx_module
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import DESCRIPTION_KEY, Description
from mbn_deploy.runtime.backends.trial import call_limited, keep_passed, limits_of, record_of, was_passed
from mbn_deploy.runtime.untrusted.onnx_check import check_onnx

_NO_OPERATIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Constant"})  # they stand around operations
# Ops that ONNX Runtime's CPU provider computes in integers between DequantizeLinear and QuantizeLinear
# (qdq_selector_action_transformer.cc).
_INTEGER_BETWEEN_QDQ = frozenset(
    {
        *(
            "Add",
            "AveragePool",
            "Concat",
            "Conv",
            "Flatten",
            "Gather",
            "Gemm",
            "GlobalAveragePool",
            "LeakyRelu",
            "MatMul",
        ),
        *("MaxPool", "Mul", "Reshape", "Resize", "Sigmoid", "Softmax", "Split", "Squeeze", "Transpose", "Unsqueeze"),
        "Where",
    }
)
# Ops that are integer by definition, and one that measures the range of activations when the model runs.
_INTEGER_PREFIXES = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger")
_RUN_TIME_RANGES = "DynamicQuantizeLinear"
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_RELU6_RANGE = (0.0, 6.0)
_ROUNDING = 1e-6  # relative, of a float32 scale


def report_onnx(data: bytes, where: str) -> FileReport:
    """Describe an .onnx file; `where` names the file in errors.

    Raises:
        InputError: the file is damaged.
    """
    model = load_onnx(data, where)
    try:
        return _Reader(model, len(data)).report(where)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: damaged: {type(error).__name__}: {error}") from error


def load_onnx(data: bytes, where: str) -> Any:
    """Return the `ModelProto`, checked and with inferred shapes; `where` names the file in errors.

    The checker and the shape inference are C++ and trust the file: `try_onnx` comes first for one of unknown origin.

    Raises:
        InputError: the file is damaged, no ONNX file, or not valid.
    """
    onnx, model = onnx_module(), _parsed(data, where)
    check_onnx(data, where)
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise InputError(f"{where}: not a valid ONNX file: {error}") from error


def try_onnx(data: bytes, where: str) -> None:
    """Call `load_onnx` in a child process first, for a file of unknown origin; what passed is remembered.

    Raises the errors of `load_onnx`, also where the child process crashes or reaches a limit.
    """
    record = record_of(sha256(data), "onnx.checker", onnx_module().__version__)
    if not was_passed(record):
        check_onnx(data, where)
        call_limited(_load_only, data, where, interpreter="onnx", limits=limits_of(data, "onnx", where), where=where)
        keep_passed(record)


def _load_only(data: bytes, where: str) -> None:
    load_onnx(data, where)


def _parsed(data: bytes, where: str) -> Any:
    """Return the `ModelProto` as it stands in the file; raises `InputError` for what is none."""
    onnx = onnx_module()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise InputError(f"{where}: damaged, or neither a TFLite nor an ONNX file: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{where}: damaged, or no ONNX file: there is no graph in it")
    _check_texts(model, where)
    return model


def _check_texts(message: Any, where: str) -> None:
    """Raise `InputError` for a name or description that is no UTF-8: protobuf returns bytes in its place, or raises."""
    for field, value in message.ListFields():
        entries = [value] if isinstance(value, (bytes, str)) or hasattr(value, "ListFields") else value
        if field.type == field.TYPE_MESSAGE:
            for entry in entries:
                _check_texts(entry, where)
        elif field.type == field.TYPE_STRING and any(isinstance(entry, bytes) for entry in entries):
            raise InputError(f"{where}: damaged: its {field.full_name} is no UTF-8")


class _Reader:
    """A file's graph, with the type and shape of each value and the nodes that write and read it."""

    def __init__(self, model: Any, size: int) -> None:
        self.model, self.graph, self.size = model, model.graph, size
        self._onnx = onnx_module()
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self._tensors.update(constant_nodes(self.graph))
        self.constants = {
            name: TensorReport(name, tuple(tensor.dims), self._dtype(tensor.data_type))
            for name, tensor in self._tensors.items()
        }
        self.writers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        known = [*self.graph.input, *self.graph.output, *self.graph.value_info]
        self.values = {value.name: self._value(value) for value in known}
        self.results = {value.name for value in self.graph.output}

    def report(self, where: str) -> FileReport:
        """Return the report."""
        merged = {id(node) for row in self.graph.node if (node := self._merged_activation(row)) is not None}
        nodes = [n for n in self.graph.node if n.op_type not in _NO_OPERATIONS and id(n) not in merged]
        ops = tuple(self._op(node) for node in nodes)
        counts = Counter(_kind(node) for node in self.graph.node)
        all_integer = bool(ops) and all(op.integer for op in ops)
        weights = {t.name: t for op in ops for t in op.constants}
        types = {t.dtype for t in weights.values()}
        dynamic = _RUN_TIME_RANGES in counts
        properties = {p.key: p.value for p in self.model.metadata_props}
        text = properties.get(DESCRIPTION_KEY)
        return FileReport(
            path=where,
            format="onnx",
            size=self.size,
            producer=f"{self.model.producer_name} {self.model.producer_version}".strip(),
            precision="dynamic" if dynamic else file_precision(ops, all_integer=all_integer, weight_types=types),
            all_integer=all_integer and not dynamic,
            parameters=sum(int(np.prod(t.shape, dtype=np.int64)) for t in weights.values()),
            inputs=tuple(self._boundary(v.name) for v in self.graph.input if v.name not in self.constants),
            outputs=tuple(self._boundary(v.name) for v in self.graph.output),
            counts=dict(sorted(counts.items())),
            ops=ops,
            description=None if text is None else Description.from_json(text, where),
            metadata=tuple(sorted(properties)),
            custom_ops=tuple(sorted({_kind(n) for n in self.graph.node if n.domain not in _STANDARD_DOMAINS})),
            dynamic_leftovers=self._dynamic_leftovers(),
        )

    def _dtype(self, code: int) -> str:
        name = str(self._onnx.TensorProto.DataType.Name(code)).lower()
        return {"float": "float32", "double": "float64"}.get(name, name)

    def _value(self, value: Any) -> TensorReport:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        return TensorReport(value.name, shape, self._dtype(kind.elem_type))

    def _known(self, name: str) -> TensorReport:
        return self.values.get(name) or self.constants.get(name) or TensorReport(name, (), "undefined")

    def _boundary(self, name: str) -> TensorReport:
        """Return an input or output of the file, with the quantization of a DequantizeLinear that reads it."""
        tensor = self._known(name)
        integers = [n for n in self._behind_transpose(name) if n.op_type == "DequantizeLinear"]
        return self._quantized(tensor, integers[0]) if integers else tensor

    def _behind_transpose(self, name: str) -> list[Any]:
        readers = self.readers.get(name, [])
        if len(readers) == 1 and readers[0].op_type == "Transpose":
            return self.readers.get(readers[0].output[0], [])
        return readers

    def _quantized(self, tensor: TensorReport, node: Any) -> TensorReport:
        """Return `tensor` with scale and zero point of a QuantizeLinear or DequantizeLinear node."""
        scales = self._numbers(node.input[1])
        if scales is None or scales.size != 1:
            return replace(tensor, channels=0 if scales is None else scales.size)
        scale = float(scales.reshape(-1)[0])
        if not 0 < scale < np.inf:
            raise ValueError(f"the scale of {tensor.name!r} is no positive number")
        zeros = self._numbers(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        return replace(tensor, scale=scale, zero_point=0 if zeros is None else int(zeros.reshape(-1)[0]), channels=1)

    def _numbers(self, name: str) -> Any:
        """Return the values of a constant, None for other values and for constants in another file."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            return None
        return self._onnx.numpy_helper.to_array(tensor)

    def _source(self, name: str) -> tuple[TensorReport, bool]:
        """Return the tensor that an op reads, integers if a DequantizeLinear is in between, and if it is constant."""
        writer = self.writers.get(name)
        if writer is None or writer.op_type != "DequantizeLinear":
            return self._known(name), name in self.constants
        stored = self._known(writer.input[0])
        shape = stored.shape or self._known(name).shape
        return self._quantized(TensorReport(name, shape, stored.dtype), writer), writer.input[0] in self.constants

    def _result(self, name: str) -> TensorReport:
        """Return the tensor that an op writes: integers, if a QuantizeLinear is the only reader of its output."""
        quantize = self._only_reader(name, "QuantizeLinear")
        if quantize is None:
            return self._known(name)
        integers = self._known(quantize.output[0])
        dequantize = self._only_reader(quantize.output[0], "DequantizeLinear")
        shown = integers.name if dequantize is None else dequantize.output[0]
        shape = integers.shape or self._known(name).shape
        return self._quantized(TensorReport(shown, shape, integers.dtype), quantize)

    def _only_reader(self, name: str, *kinds: str) -> Any:
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.results or readers[0].op_type not in kinds:
            return None
        return readers[0]

    def _merged_activation(self, node: Any) -> Any:
        """Return the Relu or Clip between an op and its QuantizeLinear, if the integers saturate in the same way."""
        if node.op_type in _NO_OPERATIONS:
            return None
        follower = self._only_reader(node.output[0], "Relu", "Clip")
        if follower is None or self._only_reader(follower.output[0], "QuantizeLinear") is None:
            return None
        limits = self._result(follower.output[0]).range
        kind = self._activation(follower)
        top = np.inf if kind == "relu" else _RELU6_RANGE[1] * (1 + _ROUNDING)
        inside = limits is not None and limits[0] == 0 and limits[1] <= top
        return follower if kind != "none" and inside else None

    def _activation(self, node: Any) -> str:
        """Return the activation of an activation node, or the one that this project's writer noted on a node."""
        if node.op_type == "Relu":
            return "relu"
        if node.op_type == "Clip" and len(node.input) == 3:
            bounds = [self._numbers(name) for name in node.input[1:]]
            same = all(b is not None and b == limit for b, limit in zip(bounds, _RELU6_RANGE, strict=True))
            return "relu6" if same else "none"
        return node.doc_string if node.doc_string in ("relu", "relu6") else "none"

    def _op(self, node: Any) -> OpReport:
        merged = self._merged_activation(node)
        last = node if merged is None else merged
        read = [self._source(name) for name in node.input if name]
        flowing = tuple(t for t, constant in read if not constant)
        outputs = tuple(self._result(name) for name in last.output if name)
        return OpReport(
            name=node.name or node.output[0],
            kind=_kind(node),
            inputs=flowing,
            outputs=outputs,
            constants=tuple(t for t, constant in read if constant and _is_weight(t)),
            activation=self._activation(last),
            integer=self._is_integer(node, [t for t, _ in read], outputs),
        )

    def _is_integer(self, node: Any, read: list[TensorReport], written: Iterable[TensorReport]) -> bool:
        if node.op_type.startswith(_INTEGER_PREFIXES):
            return True
        if any(t.dtype in FLOAT_TYPES or t.dtype == "undefined" for t in (*read, *written)):
            return False
        triple = any(self._known(name).dtype in FLOAT_TYPES for name in (*node.input, *node.output))
        return not triple or node.op_type in _INTEGER_BETWEEN_QDQ

    def _dynamic_leftovers(self) -> tuple[str, ...]:
        inputs = [v.name for v in self.graph.input if v.name not in self.constants]
        open_inputs = [f"input {name}" for name in inputs if -1 in self._known(name).shape]
        return (*open_inputs, *(f"Shape {n.name or n.output[0]}" for n in self.graph.node if n.op_type == "Shape"))


def constant_nodes(graph: Any) -> dict[str, Any]:
    """Return the tensors of Constant nodes, another way to write an initializer, by name."""
    return {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }


def _is_weight(tensor: TensorReport) -> bool:
    """Tell kernels and biases from other constants: shapes, bounds, amounts of padding."""
    return bool(tensor.shape) and (
        tensor.dtype in FLOAT_TYPES or tensor.channels > 0 or tensor.dtype in ("int8", "uint8")
    )


def _kind(node: Any) -> str:
    return node.op_type if node.domain in _STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"
