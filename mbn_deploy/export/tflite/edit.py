"""Putting operators in front of a .tflite file and behind it. What is inside stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import PLACEHOLDER_BUILTIN, TYPE_NAMES, packed, schema
from mbn_deploy.export.tflite.inspect import Reader, numbers, reading
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.formats.tflite_file import read_metadata


class TFLiteEdit:
    """A file of one graph, one input and one output, opened to be written again with more operators.

    `metadata` is what the file had of them, `added` the operators that were put there, in the order of
    the file. Raises `InputError` for a damaged file or another number of inputs and outputs.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.metadata = read_metadata(data, where)
        self.added: list[str] = []
        self._schema = schema()
        with reading(where):
            read = Reader(data)
            self._model, self._graph = read.model, read.graph
            self._buffers: list[Array | None] = [_contents(buffer) for buffer in self._model.buffers]
        if len(self._model.subgraphs) != 1 or len(read.sources) != 1 or len(read.results) != 1:
            raise InputError(f"{where}: one graph with one input and one output is expected")
        self._source, self._result = read.sources[0], read.results[0]
        found = read.tensors[self._result]
        #: What the file gives now.
        self.output = TensorInfo(found.name, found.shape, found.dtype, found.scale, found.zero_point)

    def prepend(
        self, code: str, info: TensorInfo, constants: Sequence[Sequence[int]] = (), version: int = 1, **options: Any
    ) -> None:
        """A new input `info`, from which the operator makes the input so far; `constants` are its int32 operands."""
        operands = [self._constant(f"{info.name}/{code.lower()}", values) for values in constants]
        source = self._tensor(info, f"{info.name}/{len(self._graph.tensors)}")
        self._graph.operators.insert(0, self._operator(code, [source, *operands], self._source, version, options))
        self._source = source
        self.added.insert(0, code)

    def append(self, code: str, info: TensorInfo, version: int = 1, **options: Any) -> None:
        """A new output `info`, which the operator makes of the output so far."""
        result = self._tensor(info, f"{info.name}/{len(self._graph.tensors)}")
        self._graph.operators.append(self._operator(code, [self._result], result, version, options))
        self._result, self.output = result, info
        self.added.append(code)

    def trim(self, code: str) -> None:
        """Takes operators of this kind away from both ends, if nothing else reads what they read and write."""
        wanted = getattr(self._schema.BuiltinOperator, code)
        operators = self._graph.operators
        if self._is(operators[0], wanted) and sum(self._source in op.inputs for op in operators) == 1:
            self._source = int(operators.pop(0).outputs[0])
        if operators and self._is(operators[-1], wanted):
            self._result = int(operators.pop().inputs[0])

    def _is(self, operator: Any, builtin: int) -> bool:
        return bool(self._model.operatorCodes[operator.opcodeIndex].builtinCode == builtin)

    def finish(self, metadata: Mapping[str, bytes]) -> bytes:
        """The file's bytes, with these metadata in place of its own. It has no signature: the ends are new."""
        self._graph.inputs, self._graph.outputs = [self._source], [self._result]
        self._model.signatureDefs = []
        self._model.metadata = [self._metadata(name, value) for name, value in sorted(metadata.items())]
        self._model.metadataBuffer = []
        return packed(self._model, self._buffers)

    def _tensor(self, info: TensorInfo, name: str) -> int:
        made = self._schema.TensorT()
        made.name, made.shape, made.hasRank, made.buffer = name, list(info.shape), True, 0
        made.type = getattr(self._schema.TensorType, TYPE_NAMES[info.dtype])
        if info.scale is not None:
            made.quantization = self._schema.QuantizationParametersT()
            made.quantization.scale = np.array([info.scale], np.float32)
            made.quantization.zeroPoint = np.array([info.zero_point or 0], np.int64)
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def _constant(self, name: str, values: Sequence[int]) -> int:
        data = np.array(values, np.int32)
        index = self._tensor(TensorInfo(name, data.shape, "int32"), name)
        self._graph.tensors[index].buffer = self._buffer(data)
        return index

    def _buffer(self, data: Array) -> int:
        self._buffers.append(data)
        return len(self._buffers) - 1

    def _operator(self, code: str, inputs: list[int], output: int, version: int, options: Mapping[str, Any]) -> Any:
        made = self._schema.OperatorT()
        made.opcodeIndex = self._opcode(getattr(self._schema.BuiltinOperator, code), version)
        made.inputs, made.outputs = inputs, [output]
        settings = dict(options)
        kind = settings.pop("options_type", None)
        if kind is not None:
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(self._schema, f"{kind}T")()
        for key, value in settings.items():
            setattr(made.builtinOptions, key, value)
        return made

    def _opcode(self, builtin: int, version: int) -> int:
        made = self._schema.OperatorCodeT()
        made.builtinCode, made.version = builtin, version
        made.deprecatedBuiltinCode = min(builtin, PLACEHOLDER_BUILTIN)
        self._model.operatorCodes.append(made)
        return len(self._model.operatorCodes) - 1

    def _metadata(self, name: str, value: bytes) -> Any:
        made = self._schema.MetadataT()
        made.name, made.buffer = name, self._buffer(np.frombuffer(value, np.uint8))
        return made


def _contents(buffer: Any) -> Array | None:
    """A buffer's bytes; data behind the flatbuffer, which only files above 2 GB have, are refused."""
    if buffer.size:
        raise ValueError("its weights lie behind the flatbuffer")
    data = numbers(buffer.data)
    return np.asarray(data, np.uint8) if len(data) else None
