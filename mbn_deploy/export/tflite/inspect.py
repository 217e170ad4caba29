"""Reading .tflite files back, through the schema's generated classes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError
from mbn_deploy.export.file_report import (
    FLOAT_TYPES,
    TYPE_CONVERSIONS,
    FileReport,
    OpReport,
    TensorReport,
    file_precision,
)
from mbn_deploy.export.tflite.builder import PLACEHOLDER_BUILTIN, schema
from mbn_deploy.manifest import DESCRIPTION_KEY, Description
from mbn_deploy.runtime.formats.tflite_file import read_metadata
from mbn_deploy.text import plural, shorten

# Operators by which converters compute the batch size when the model runs, on these types.
_SHAPE_OPS, _SHAPE_TYPES = frozenset({"SHAPE", "STRIDED_SLICE", "PACK"}), ("int32", "int64")
_SELECT_TF_PREFIX = "Flex"

# The generated classes raise these on bytes that contradict the schema.
_READER_ERRORS = (
    *(struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, AssertionError),
    *(MemoryError, RecursionError),
)


def report_tflite(data: bytes, where: str) -> FileReport:
    """Describe the first graph of a .tflite file; `where` names the file in errors.

    Raises:
        InputError: the file is damaged.
    """
    metadata = read_metadata(data, where)
    with damage_as_input_error(where):
        report = TFLiteReader(data).report(where, tuple(sorted(metadata)))
    text = metadata.get(DESCRIPTION_KEY)
    if text is None:
        return report
    return replace(report, description=Description.from_json(text, where))


@contextmanager
def damage_as_input_error(where: str) -> Iterator[None]:
    """Turn the errors of the generated classes on damaged bytes into an `InputError` that names `where`."""
    try:
        yield
    except _READER_ERRORS as error:
        raise InputError(
            f"{where}: damaged, or of a newer format than this program knows ({type(error).__name__}: {error})"
        ) from error


class TFLiteReader:
    """A file's model object and its first graph, with the tensors as reports."""

    def __init__(self, data: bytes) -> None:
        classes = schema()
        self.size = len(data)
        self.model = classes.ModelT.InitFromPackedBuf(bytearray(data))
        self.graph = self.model.subgraphs[0]
        self._types = _names(classes.TensorType)
        self._codes = _names(classes.BuiltinOperator)
        self._activations = _names(classes.ActivationFunctionType)
        self.tensors = [self._tensor(t) for t in self.graph.tensors or ()]
        self.constant = [self._is_constant(t) for t in self.graph.tensors or ()]
        self.sources, self.results = indices(self.graph.inputs), indices(self.graph.outputs)

    def report(self, where: str, metadata: tuple[str, ...]) -> FileReport:
        """Return the report, without the description."""
        ops = tuple(self._op(op) for op in self.graph.operators or ())
        custom = sorted({name for op in self.graph.operators or () if (name := self._custom(op)) is not None})
        inner = [op for op, raw in zip(ops, self.graph.operators or (), strict=True) if not self._is_end(op, raw)]
        all_integer = bool(inner) and all(op.integer for op in inner)
        weights = [t for i, t in enumerate(self.tensors) if self._is_weight(i)]
        return FileReport(
            path=where,
            format="tflite",
            size=self.size,
            producer=text(self.model.description),
            precision=file_precision(ops, all_integer=all_integer, weight_types={t.dtype for t in weights}),
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
            dynamic_leftovers=self._dynamic_leftovers(ops),
            warnings=self._warnings(),
        )

    def _tensor(self, raw: Any) -> TensorReport:
        shape = indices(raw.shapeSignature) or indices(raw.shape)
        scales = [] if raw.quantization is None else numbers(raw.quantization.scale)
        tensor = TensorReport(
            name=text(raw.name), shape=shape, dtype=self._types[raw.type].lower(), channels=len(scales)
        )
        if len(scales) != 1:
            return tensor
        zeros = numbers(raw.quantization.zeroPoint)
        return replace(tensor, scale=float(scales[0]), zero_point=int(zeros[0]) if zeros else 0)

    def _is_constant(self, raw: Any) -> bool:
        buffer = self.model.buffers[raw.buffer]
        return len(numbers(buffer.data)) > 0 or bool(buffer.size)

    def _is_weight(self, index: int) -> bool:
        """Tell kernels and biases from shapes and axes, which are integers without a scale."""
        tensor = self.tensors[index]
        return self.constant[index] and (tensor.dtype in FLOAT_TYPES or tensor.channels > 0)

    def _op(self, raw: Any) -> OpReport:
        inputs = [i for i in indices(raw.inputs) if i >= 0]
        outputs = tuple(self.tensors[i] for i in indices(raw.outputs))
        activations = tuple(self.tensors[i] for i in inputs if not self.constant[i])
        constants = tuple(self.tensors[i] for i in inputs if self._is_weight(i))
        kind = self._kind(raw)
        floats = any(t.dtype in FLOAT_TYPES for t in (*activations, *outputs, *constants))
        return OpReport(
            name=outputs[0].name if outputs else kind,
            kind=kind,
            inputs=activations,
            outputs=outputs,
            constants=constants,
            activation=self._activation(raw, kind),
            integer=not floats and self._custom(raw) is None,
        )

    def _kind(self, raw: Any) -> str:
        code = self.model.operatorCodes[raw.opcodeIndex]
        # Files before schema 3a have the code in the older field; later ones write the codes there that fit.
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

    def _is_end(self, op: OpReport, raw: Any) -> bool:
        """Tell whether the operator converts the type of the file's input or output."""
        if op.kind not in TYPE_CONVERSIONS:
            return False
        return set(indices(raw.inputs)) <= set(self.sources) or set(indices(raw.outputs)) <= set(self.results)

    def _warnings(self) -> tuple[str, ...]:
        """Name the tensors whose scales are said to lie along an axis that they do not have."""
        wrong = [
            tensor.name
            for tensor, raw in zip(self.tensors, self.graph.tensors or (), strict=True)
            if tensor.channels > 1 and not 0 <= raw.quantization.quantizedDimension < len(tensor.shape)
        ]
        if not wrong:
            return ()
        count = plural(len(wrong), "tensor")
        return (f"{count} with scales along an axis that they do not have (older converters did so): {shorten(wrong)}",)

    def _dynamic_leftovers(self, ops: Iterable[OpReport]) -> tuple[str, ...]:
        open_inputs = [f"input {self.tensors[i].name}" for i in self.sources if -1 in self.tensors[i].shape]
        return (*open_inputs, *(f"{op.kind} {op.name}" for op in ops if computes_shape(op.kind, op.outputs[:1])))


def computes_shape(kind: str, outputs: Sequence[TensorReport]) -> bool:
    """Tell whether an operation computes a shape, not values that depend on the picture."""
    return kind in _SHAPE_OPS and all(tensor.dtype in _SHAPE_TYPES for tensor in outputs)


def _names(enumeration: Any) -> dict[int, str]:
    """Return the names of a schema enumeration by value."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def numbers(values: Any) -> Any:
    """Return a vector of the file, empty if it is absent (the generated classes have None or 0 there)."""
    return () if values is None or isinstance(values, int) else values


def indices(values: Any) -> tuple[int, ...]:
    """Return a vector of the file as integers: a shape, or indices of tensors."""
    return tuple(int(v) for v in numbers(values))


def text(value: bytes | str | None) -> str:
    """Return a string of the file, empty if it is absent."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
