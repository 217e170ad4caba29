"""Reads a .tflite file back, through the schema's generated classes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError
from mbn_deploy.export.file_report import FileReport, OpReport, TensorReport, precision_of
from mbn_deploy.export.tflite.builder import PLACEHOLDER_BUILTIN, schema
from mbn_deploy.manifest import DESCRIPTION_KEY, Description
from mbn_deploy.runtime.formats.tflite_file import read_metadata

_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})
_BORDER = frozenset({"QUANTIZE", "DEQUANTIZE"})
# Ops by which converters compute the batch size when the model runs.
DYNAMIC = frozenset({"SHAPE", "STRIDED_SLICE", "PACK"})
_SELECT_TF_PREFIX = "Flex"

# What the generated readers raise on bytes that contradict the schema.
_READER_ERRORS = (
    struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, AssertionError,
    MemoryError, RecursionError,
)  # fmt: skip


def report_tflite(data: bytes, where: str) -> FileReport:
    """What stands in the first graph of a .tflite file; `where` names it. Raises `InputError` for damaged ones."""
    metadata = read_metadata(data, where)
    with reading(where):
        report = Reader(data).report(where, tuple(sorted(metadata)))
    text = metadata.get(DESCRIPTION_KEY)
    if text is None:
        return report
    return replace(report, description=Description.from_json(text, where))


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what the generated readers raise on damaged bytes into an `InputError` that names `where`."""
    try:
        yield
    except _READER_ERRORS as error:
        raise InputError(
            f"{where}: damaged, or of a newer format than this program knows ({type(error).__name__}: {error})"
        ) from error


class Reader:
    """One file being read: its model object, and its first graph with tensors as reports."""

    def __init__(self, data: bytes) -> None:
        kinds = schema()
        self.size = len(data)
        self.model = kinds.ModelT.InitFromPackedBuf(bytearray(data))
        self.graph = self.model.subgraphs[0]
        self._types = _names(kinds.TensorType)
        self._codes = _names(kinds.BuiltinOperator)
        self._activations = _names(kinds.ActivationFunctionType)
        self.tensors = [self._tensor(t) for t in self.graph.tensors or ()]
        self.constant = [self._is_constant(t) for t in self.graph.tensors or ()]
        self.sources, self.results = indices(self.graph.inputs), indices(self.graph.outputs)

    def report(self, where: str, metadata: tuple[str, ...]) -> FileReport:
        """The whole report but for the description."""
        ops = tuple(self._op(op) for op in self.graph.operators or ())
        custom = sorted({name for op in self.graph.operators or () if (name := self._custom(op)) is not None})
        inner = [op for op, raw in zip(ops, self.graph.operators or (), strict=True) if not self._is_border(op, raw)]
        all_integer = bool(inner) and all(op.integer for op in inner)
        weights = [t for i, t in enumerate(self.tensors) if self._is_weight(i)]
        return FileReport(
            path=where,
            format="tflite",
            size=self.size,
            producer=text(self.model.description),
            precision=precision_of(ops, all_integer=all_integer, weight_types={t.dtype for t in weights}),
            all_integer=all_integer,
            parameters=sum(int(np.prod(t.shape, dtype=np.int64)) for t in weights),
            inputs=tuple(self.tensors[i] for i in self.sources),
            outputs=tuple(self.tensors[i] for i in self.results),
            counts=dict(sorted(Counter(op.kind for op in ops).items())),
            ops=ops,
            metadata=metadata,
            signatures=tuple(text(s.signatureKey) for s in self.model.signatureDefs or ()),
            select_tf_ops=tuple(name for name in custom if name.startswith(_SELECT_TF_PREFIX)),
            custom_ops=tuple(name for name in custom if not name.startswith(_SELECT_TF_PREFIX)),
            dynamic_leftovers=self._dynamic(ops),
        )

    def _tensor(self, raw: Any) -> TensorReport:
        shape = indices(raw.shapeSignature) or indices(raw.shape)
        facts = (text(raw.name), shape, self._types[raw.type].lower())
        scales = [] if raw.quantization is None else numbers(raw.quantization.scale)
        if len(scales) != 1:
            return TensorReport(*facts, channels=len(scales))
        zeros = numbers(raw.quantization.zeroPoint)
        return TensorReport(*facts, scale=float(scales[0]), zero_point=int(zeros[0]) if zeros else 0, channels=1)

    def _is_constant(self, raw: Any) -> bool:
        buffer = self.model.buffers[raw.buffer]
        return len(numbers(buffer.data)) > 0 or bool(buffer.size)

    def _is_weight(self, index: int) -> bool:
        """Kernels and biases, not shapes and axes: those are integers without a scale."""
        tensor = self.tensors[index]
        return self.constant[index] and (tensor.dtype in _FLOATS or tensor.channels > 0)

    def _op(self, raw: Any) -> OpReport:
        inputs = [i for i in indices(raw.inputs) if i >= 0]
        outputs = tuple(self.tensors[i] for i in indices(raw.outputs))
        flowing = tuple(self.tensors[i] for i in inputs if not self.constant[i])
        constants = tuple(self.tensors[i] for i in inputs if self._is_weight(i))
        kind = self._kind(raw)
        floats = any(t.dtype in _FLOATS for t in (*flowing, *outputs, *constants))
        return OpReport(
            name=outputs[0].name if outputs else kind,
            kind=kind,
            inputs=flowing,
            outputs=outputs,
            constants=constants,
            activation=self._activation(raw, kind),
            integer=not floats and self._custom(raw) is None,
        )

    def _kind(self, raw: Any) -> str:
        code = self.model.operatorCodes[raw.opcodeIndex]
        # Files before schema 3a keep the code in the older field; later ones write there what fits.
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        if code.deprecatedBuiltinCode == PLACEHOLDER_BUILTIN:
            builtin = code.builtinCode
        return self._custom(raw) or self._codes[builtin]

    def _custom(self, raw: Any) -> str | None:
        name = self.model.operatorCodes[raw.opcodeIndex].customCode
        return None if not name else text(name)

    def _activation(self, raw: Any, kind: str) -> str:
        if kind in ("RELU", "RELU6"):
            return kind.lower()
        return self._activations[getattr(raw.builtinOptions, "fusedActivationFunction", 0)].lower()

    def _is_border(self, op: OpReport, raw: Any) -> bool:
        if op.kind not in _BORDER:
            return False
        return set(indices(raw.inputs)) <= set(self.sources) or set(indices(raw.outputs)) <= set(self.results)

    def _dynamic(self, ops: Iterable[OpReport]) -> tuple[str, ...]:
        open_inputs = [f"input {self.tensors[i].name}" for i in self.sources if -1 in self.tensors[i].shape]
        return (*open_inputs, *(f"{op.kind} {op.name}" for op in ops if op.kind in DYNAMIC))


def _names(enumeration: Any) -> dict[int, str]:
    """Names of a schema enumeration by value."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def numbers(values: Any) -> Any:
    """A vector of the file; the generated classes say `None`, or 0, for an absent one."""
    return () if values is None or isinstance(values, int) else values


def indices(values: Any) -> tuple[int, ...]:
    """A vector of integers of the file, e.g. a shape."""
    return tuple(int(v) for v in numbers(values))


def text(value: bytes | str | None) -> str:
    """A string of the file; empty for an absent one."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
