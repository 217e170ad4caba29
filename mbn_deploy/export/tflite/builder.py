"""A thin layer over the TFLite flatbuffer schema: tensors, buffers, operators, one signature.

It knows the file format and nothing of networks. Buffers are aligned to 16 bytes, as the schema asks
(`force_align: 16`) and as interpreters that map the file into memory need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array
from mbn_deploy.errors import MissingExtraError

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16
PLACEHOLDER_BUILTIN = 127  # `deprecated_builtin_code` holds 8 bits; larger codes write this there
TYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")


def schema() -> Any:
    """Return the module of generated flatbuffer classes.

    Raises:
        MissingExtraError: the export extra is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "export", "to read and write .tflite files") from error
    return schema_py_generated


# Objects of the schema, for files that are built and files that are edited


def tensor_object(name: str, shape: Sequence[int], dtype: str, buffer: int = 0) -> Any:
    """Make a `TensorT` without quantization; `buffer` 0 is the empty one, of tensors that are computed."""
    if dtype not in TYPES:
        raise ValueError(f"tensor {name!r}: no type {dtype!r}")
    tensor = schema().TensorT()
    tensor.name, tensor.shape, tensor.hasRank = name, [int(n) for n in shape], True
    tensor.type = getattr(schema().TensorType, dtype.upper())
    tensor.buffer = buffer
    return tensor


def quantization_object(scale: npt.ArrayLike, zero_point: int, axis: int = 0) -> Any:
    """Make a `QuantizationParametersT`: one scale, or one per slice along `axis`."""
    quantization = schema().QuantizationParametersT()
    quantization.scale = np.asarray(scale, np.float32).reshape(-1)
    quantization.zeroPoint = np.full(len(quantization.scale), zero_point, np.int64)
    quantization.quantizedDimension = axis
    return quantization


def operator_object(opcode: int, inputs: Sequence[int], outputs: Sequence[int], options: Mapping[str, Any]) -> Any:
    """Make an `OperatorT`; `options` are the fields of its options table, whose name is under `options_type`."""
    operator = schema().OperatorT()
    operator.opcodeIndex = opcode
    operator.inputs, operator.outputs = list(inputs), list(outputs)
    fields = dict(options)
    table = fields.pop("options_type", None)
    if table is not None:
        operator.builtinOptionsType = getattr(schema().BuiltinOptions, table)
        operator.builtinOptions = getattr(schema(), f"{table}T")()
        for key, value in fields.items():
            setattr(operator.builtinOptions, key, value)
    return operator


def operator_code_object(builtin: int, version: int) -> Any:
    """Make an `OperatorCodeT` of a builtin operator, by its number in the schema."""
    code = schema().OperatorCodeT()
    code.builtinCode, code.version = builtin, version
    code.deprecatedBuiltinCode = min(builtin, PLACEHOLDER_BUILTIN)
    return code


def metadata_object(name: str, buffer: int) -> Any:
    """Make a `MetadataT` whose bytes are in buffer number `buffer`."""
    metadata = schema().MetadataT()
    metadata.name, metadata.buffer = name, buffer
    return metadata


class ModelBuilder:
    """Collects one subgraph and packs it. Tensors and operators keep the order in which they came."""

    def __init__(self, name: str) -> None:
        self._schema = schema()
        self._name = name
        self._buffers: list[Array | None] = [None]  # buffer 0 is empty by convention
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        data: Array | None = None,
        scale: npt.ArrayLike | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """Add a tensor and return its index.

        With `data` it is a constant; `scale` of more than one value is per slice along `axis`.
        """
        tensor = tensor_object(name, shape, dtype)
        if data is not None:
            tensor.buffer = self._buffer(np.ascontiguousarray(data))
        if scale is not None:
            tensor.quantization = quantization_object(scale, zero_point, axis)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of the tensor with this index."""
        return tuple(self._tensors[tensor].shape)

    def type(self, tensor: int) -> int:
        """Return the type of the tensor with this index, by its number in the schema."""
        return int(self._tensors[tensor].type)

    def operator(
        self, code: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options: Any
    ) -> None:
        """Append an operator; `options` are the fields of its options table, whose name is `options_type`."""
        key = getattr(self._schema.BuiltinOperator, code), version
        opcode = self._codes.setdefault(key, len(self._codes))
        self._operators.append(operator_object(opcode, inputs, outputs, options))

    def finish(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, bytes], description: str
    ) -> bytes:
        """Return the file's bytes. `inputs` and `outputs` are the signature's names with their tensors."""
        model = self._schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, description
        model.metadata = [
            metadata_object(name, self._buffer(np.frombuffer(value, np.uint8)))
            for name, value in sorted(metadata.items())
        ]
        model.subgraphs = [self._subgraph(inputs, outputs)]
        model.operatorCodes = [operator_code_object(*key) for key in self._codes]
        model.signatureDefs = [self._signature(inputs, outputs)]
        return pack_model(model, self._buffers)

    def _buffer(self, data: Array) -> int:
        self._buffers.append(data)
        return len(self._buffers) - 1

    def _subgraph(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        subgraph = self._schema.SubGraphT()
        subgraph.name = self._name
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = list(inputs.values()), list(outputs.values())
        return subgraph

    def _signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [self._tensor_map(*item) for item in inputs.items()]
        signature.outputs = [self._tensor_map(*item) for item in outputs.items()]
        return signature

    def _tensor_map(self, name: str, index: int) -> Any:
        tensor_map = self._schema.TensorMapT()
        tensor_map.name, tensor_map.tensorIndex = name, index
        return tensor_map


def pack_model(model: Any, buffers: Sequence[Array | None]) -> bytes:
    """Return the bytes of a `ModelT` with these buffers, number 0 among them."""
    import flatbuffers

    model.buffers = [_AlignedBuffer(data) for data in buffers]
    size = sum(data.nbytes for data in buffers if data is not None)
    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuffer:
    """A stand-in for `BufferT`, whose own `Pack` aligns data to 4 bytes only."""

    def __init__(self, data: Array | None) -> None:
        self.data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the schema's ModelT calls
        classes = schema()
        vector = None if self.data is None else _aligned_vector(builder, self.data.reshape(-1).view(np.uint8))
        classes.BufferStart(builder)
        if vector is not None:
            classes.BufferAddData(builder, vector)
        return cast("int", classes.BufferEnd(builder))


def _aligned_vector(builder: Any, data: npt.NDArray[np.uint8]) -> int:
    builder.StartVector(1, data.size, BUFFER_ALIGNMENT)
    builder.head -= data.size
    builder.Bytes[builder.head : builder.head + data.size] = data.tobytes()
    return cast("int", builder.EndVector())
