"""Operators in front of a .tflite file and behind it, while everything inside stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import (
    metadata_object,
    operator_code_object,
    operator_object,
    pack_model,
    quantization_object,
    schema,
    tensor_object,
)
from mbn_deploy.export.tflite.inspect import TFLiteReader, damage_as_input_error, numbers
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.formats.tflite_file import read_metadata


class TFLiteEdit:
    """A file of one graph, one input and one output, opened to be written again with more or fewer operators.

    `metadata` is the metadata of the original file, `output` the output that the file has now, `added` the codes of
    the operators that were added, in the order of the file.

    Raises:
        InputError: the file is damaged, or has another number of graphs, inputs or outputs.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.metadata = read_metadata(data, where)
        self.added: list[str] = []
        with damage_as_input_error(where):
            reader = TFLiteReader(data)
            self._model, self._graph = reader.model, reader.graph
            self._buffers: list[Array | None] = [_contents(buffer) for buffer in self._model.buffers]
        if len(self._model.subgraphs) != 1 or len(reader.sources) != 1 or len(reader.results) != 1:
            raise InputError(f"{where}: one graph with one input and one output is expected")
        self._source, self._result = reader.sources[0], reader.results[0]
        tensor = reader.tensors[self._result]
        self.output = TensorInfo(
            name=tensor.name,
            shape=tensor.shape,
            dtype=tensor.dtype,
            scale=tensor.scale,
            zero_point=tensor.zero_point,
        )

    def prepend(
        self, code: str, info: TensorInfo, constants: Sequence[Sequence[int]] = (), version: int = 1, **options: Any
    ) -> None:
        """Make `info` the file's input; the operator turns it into the input so far.

        `constants` are the operator's int32 operands, `options` as for `ModelBuilder.operator`.
        """
        operands = [self._constant(f"{info.name}/{code.lower()}", values) for values in constants]
        source = self._tensor(info, f"{info.name}/{len(self._graph.tensors)}")
        self._graph.operators.insert(0, self._operator(code, [source, *operands], self._source, version, options))
        self._source = source
        self.added.insert(0, code)

    def append(self, code: str, info: TensorInfo, version: int = 1, **options: Any) -> None:
        """Make `info` the file's output; the operator makes it of the output so far."""
        result = self._tensor(info, f"{info.name}/{len(self._graph.tensors)}")
        self._graph.operators.append(self._operator(code, [self._result], result, version, options))
        self._result, self.output = result, info
        self.added.append(code)

    def trim(self, code: str) -> None:
        """Remove operators `code` from both ends, unless another operator reads the input of the first one."""
        builtin = getattr(schema().BuiltinOperator, code)
        operators = self._graph.operators
        if self._is(operators[0], builtin) and sum(self._source in op.inputs for op in operators) == 1:
            self._source = int(operators.pop(0).outputs[0])
        if operators and self._is(operators[-1], builtin):
            self._result = int(operators.pop().inputs[0])

    def _is(self, operator: Any, builtin: int) -> bool:
        return bool(self._model.operatorCodes[operator.opcodeIndex].builtinCode == builtin)

    def finish(self, metadata: Mapping[str, bytes]) -> bytes:
        """Return the file's bytes, with `metadata` in place of its own and without a signature, as the ends are new."""
        self._graph.inputs, self._graph.outputs = [self._source], [self._result]
        self._model.signatureDefs = []
        self._model.metadata = [
            metadata_object(name, self._buffer(np.frombuffer(value, np.uint8)))
            for name, value in sorted(metadata.items())
        ]
        self._model.metadataBuffer = []
        return pack_model(self._model, self._buffers)

    def _tensor(self, info: TensorInfo, name: str, buffer: int = 0) -> int:
        tensor = tensor_object(name, info.shape, info.dtype, buffer)
        if info.scale is not None:
            tensor.quantization = quantization_object(info.scale, info.zero_point or 0)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _constant(self, name: str, values: Sequence[int]) -> int:
        data = np.array(values, np.int32)
        return self._tensor(TensorInfo(name, data.shape, "int32"), name, self._buffer(data))

    def _buffer(self, data: Array) -> int:
        self._buffers.append(data)
        return len(self._buffers) - 1

    def _operator(self, code: str, inputs: list[int], output: int, version: int, options: Mapping[str, Any]) -> Any:
        codes = self._model.operatorCodes
        codes.append(operator_code_object(getattr(schema().BuiltinOperator, code), version))
        return operator_object(len(codes) - 1, inputs, [output], options)


def _contents(buffer: Any) -> Array | None:
    """Return a buffer's bytes; refuse those behind the flatbuffer, which only files above 2 GB have."""
    if buffer.size:
        raise ValueError("its weights lie behind the flatbuffer")
    data = numbers(buffer.data)
    return np.asarray(data, np.uint8) if len(data) else None
