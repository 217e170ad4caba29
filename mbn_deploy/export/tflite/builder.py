"""The thin layer over the TFLite flatbuffer schema: tensors, buffers, operators, one signature.

Knows the file format and nothing of networks. Buffers are aligned to 16 bytes, as the schema asks
(`force_align: 16`) and as interpreters that map the file into memory need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16
PLACEHOLDER_BUILTIN = 127  # `deprecated_builtin_code` holds 8 bits; larger codes write this there

TYPE_NAMES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64",
}  # fmt: skip


def schema() -> Any:
    """The generated flatbuffer classes; `MissingExtraError` where the export extra is not installed."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        from mbn_deploy.errors import MissingExtraError

        raise MissingExtraError("ai-edge-litert", "export", "to read and write .tflite files") from error
    return schema_py_generated


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
        scale: Sequence[float] | npt.NDArray[np.float32] | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """A tensor's index; with `data` it is a constant. `scale` of more than one value is per `axis`."""
        made = self._schema.TensorT()
        made.name, made.shape, made.hasRank = name, [int(n) for n in shape], True
        made.type = getattr(self._schema.TensorType, TYPE_NAMES[dtype])
        made.buffer = 0
        if data is not None:
            made.buffer = len(self._buffers)
            self._buffers.append(np.ascontiguousarray(data))
        if scale is not None:
            made.quantization = self._quantization(scale, zero_point, axis)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor made before."""
        return tuple(self._tensors[tensor].shape)

    def type(self, tensor: int) -> int:
        """The type of a tensor made before, by its number in the schema."""
        return int(self._tensors[tensor].type)

    def _quantization(self, scale: Any, zero_point: int, axis: int) -> Any:
        made = self._schema.QuantizationParametersT()
        made.scale = np.asarray(scale, np.float32).reshape(-1)
        made.zeroPoint = np.full(len(made.scale), zero_point, np.int64)
        made.quantizedDimension = axis
        return made

    def operator(
        self, code: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options: Any
    ) -> None:
        """Append an operator; `options` are fields of `<options_type>T`, named by the key `options_type`."""
        made = self._schema.OperatorT()
        made.opcodeIndex = self._opcode(getattr(self._schema.BuiltinOperator, code), version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        kind = options.pop("options_type", None)
        if kind is not None:
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(self._schema, f"{kind}T")()
            for key, value in options.items():
                setattr(made.builtinOptions, key, value)
        self._operators.append(made)

    def _opcode(self, builtin: int, version: int) -> int:
        return self._codes.setdefault((builtin, version), len(self._codes))

    def finish(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, bytes], description: str
    ) -> bytes:
        """The file's bytes. `inputs` and `outputs` are the signature's names with their tensors."""
        model = self._schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, description
        model.metadata = [self._metadata(name, value) for name, value in sorted(metadata.items())]
        model.subgraphs = [self._subgraph(inputs, outputs)]
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        model.signatureDefs = [self._signature(inputs, outputs)]
        return packed(model, self._buffers)

    def _subgraph(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        made = self._schema.SubGraphT()
        made.name = self._name
        made.tensors, made.operators = self._tensors, self._operators
        made.inputs, made.outputs = list(inputs.values()), list(outputs.values())
        return made

    def _operator_code(self, builtin: int, version: int) -> Any:
        made = self._schema.OperatorCodeT()
        made.builtinCode, made.version = builtin, version
        made.deprecatedBuiltinCode = min(builtin, PLACEHOLDER_BUILTIN)
        return made

    def _signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        made = self._schema.SignatureDefT()
        made.signatureKey = "serving_default"
        made.inputs = [self._tensor_map(*item) for item in inputs.items()]
        made.outputs = [self._tensor_map(*item) for item in outputs.items()]
        return made

    def _tensor_map(self, name: str, index: int) -> Any:
        made = self._schema.TensorMapT()
        made.name, made.tensorIndex = name, index
        return made

    def _metadata(self, name: str, value: bytes) -> Any:
        made = self._schema.MetadataT()
        made.name, made.buffer = name, len(self._buffers)
        self._buffers.append(np.frombuffer(value, np.uint8))
        return made


def packed(model: Any, buffers: Sequence[Array | None]) -> bytes:
    """The file's bytes of a `ModelT` and its buffers, number 0 among them."""
    import flatbuffers

    model.buffers = [_AlignedBuffer(data) for data in buffers]
    size = sum(data.nbytes for data in buffers if data is not None)
    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuffer:
    """Stands in for `BufferT`, whose own `Pack` aligns data to 4 bytes only."""

    def __init__(self, data: Array | None) -> None:
        self.data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the schema's ModelT calls
        kinds = schema()
        vector = None if self.data is None else _aligned_vector(builder, self.data.reshape(-1).view(np.uint8))
        kinds.BufferStart(builder)
        if vector is not None:
            kinds.BufferAddData(builder, vector)
        return cast("int", kinds.BufferEnd(builder))


def _aligned_vector(builder: Any, data: npt.NDArray[np.uint8]) -> int:
    builder.StartVector(1, data.size, BUFFER_ALIGNMENT)
    builder.head -= data.size
    builder.Bytes[builder.head : builder.head + data.size] = data.tobytes()
    return cast("int", builder.EndVector())
