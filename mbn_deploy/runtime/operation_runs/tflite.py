"""Run a .tflite file that returns the results of all its ops, or one of its ops alone.

The flatbuffer is edited in place: a new vector of numbers is appended, and the field that referred to the old one now
refers to it (google/flatbuffers, internals.md: references count forward).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.backends.delegation import partitioning
from mbn_deploy.runtime.backends.interpreter import allocated
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.runtime.formats.file_end import operation_name
from mbn_deploy.runtime.formats.flatbuffer import Table, damage_named, root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER
from mbn_deploy.runtime.operation_runs.operation import Operation

# Fields of the schema's SubGraph, and of Operator.
_INPUTS, _OUTPUTS, _OPERATORS = 1, 2, 3
_READ, _WRITTEN = 1, 2


class Wiring:
    """The ops of the first graph that depend on the input, and the indices of the tensors that they read and write.

    `numbers` are the indices of the ops; `written`, `read` and `kinds` have an entry for each of them. The kinds are
    `operation_name`s. Raises `InputError` for damaged bytes.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self._where = data, where
        with damage_named(where):
            model = root(data, IDENTIFIER)
            self._graph, codes = model.tables(2)[0], model.tables(1)
            operators = self._graph.tables(_OPERATORS)
            self.source = int(self._graph.numbers(_INPUTS, "i")[0])
            self.numbers, self.written, self.read = self._followed(operators)
            self.kinds = [operation_name(codes[operators[number].scalar(0, "I", 0)]) for number in self.numbers]

    def _followed(self, operators: list[Table]) -> tuple[list[int], list[int], list[list[int]]]:
        """Follow the data from the input: for each op that depends on it, its index, its output and its inputs.

        Ops on constants only are skipped; delegates may fold them away.
        """
        flowing = {self.source}
        numbers, written, read = [], [], []
        for number, operator in enumerate(operators):
            inputs = list(dict.fromkeys(int(i) for i in operator.numbers(_READ, "i") if i in flowing))
            if inputs:
                numbers.append(number)
                read.append(inputs)
                written.append(int(operator.numbers(_WRITTEN, "i")[0]))
                flowing.add(written[-1])
        return numbers, written, read

    def file_with_all_outputs(self, count: int | None = None) -> bytes:
        """Return the file with the result of every op as an output, in their order; it ends after `count` of them."""
        changed = bytearray(self.data)
        if count is not None and count < len(self.numbers):
            with damage_named(self._where):
                start, _ = self._graph.vector(_OPERATORS, 4)
            struct.pack_into("<I", changed, start - 4, self.numbers[count - 1] + 1)
        return bytes(self._with_vector(changed, _OUTPUTS, self.written[:count]))

    def file_with_one_op(self, index: int) -> bytes:
        """Return the file with only the `index`-th op of `numbers`, whose inputs and result are the file's."""
        changed = bytearray(self.data)
        with damage_named(self._where):
            start, _ = self._graph.vector(_OPERATORS, 4)
            operator = self._graph.tables(_OPERATORS)[self.numbers[index]]
            struct.pack_into("<II", changed, start - 4, 1, operator.position - start)
        changed = self._with_vector(changed, _INPUTS, self.read[index])
        return bytes(self._with_vector(changed, _OUTPUTS, [self.written[index]]))

    def _with_vector(self, data: bytearray, field: int, values: Sequence[int]) -> bytearray:
        position = self._graph.field_position(field)
        if position is None:
            raise InputError(f"{self._where}: damaged: its graph has no inputs or outputs")
        data += bytes(-len(data) % 4)
        struct.pack_into("<I", data, position, len(data) - position)
        return data + struct.pack(f"<{len(values) + 1}i", len(values), *values)


class TfliteOperations:
    """A .tflite file in an interpreter. See `Operations`."""

    def __init__(
        self, data: bytes, backend: str, threads: int, where: str, *, reference: bool, count: int | None = None
    ) -> None:
        self.wiring = Wiring(data, where)
        self._where = where
        contents = self.wiring.file_with_all_outputs(count)
        self._interpreter = _open(contents, backend, threads, where, reference=reference)
        names = {int(tensor["index"]): str(tensor["name"]) for tensor in self._interpreter.get_tensor_details()}
        kinds = [str(op["op_name"]) for op in partitioning(self._interpreter).ops]
        self._written = self.wiring.written[:count]
        wired = zip(self.wiring.numbers, self._written, strict=False)
        self.operations = tuple(Operation(kinds[number], names[tensor]) for number, tensor in wired)

    def run(self, values: Array) -> list[Array]:
        """Return the result of each operation; see `Operations`."""
        return _computed(self._interpreter, {self.wiring.source: values}, self._written, self._where)


class SingleOperation:
    """The `index`-th op of a file alone, in `backend`, with its default delegate."""

    def __init__(self, wiring: Wiring, index: int, backend: str, threads: int, where: str) -> None:
        self._read, self._written, self._where = wiring.read[index], wiring.written[index], where
        self._interpreter = _open(wiring.file_with_one_op(index), backend, threads, where, reference=False)

    def run(self, tensors: dict[int, Array]) -> Array:
        """Return the op's result for the values of the tensors that it reads, given by their index."""
        return _computed(self._interpreter, {i: tensors[i] for i in self._read}, [self._written], self._where)[0]


def _open(data: bytes, backend: str, threads: int, where: str, *, reference: bool) -> Any:
    module = load_interpreter(backend)
    options = {"experimental_op_resolver_type": module.OpResolverType.BUILTIN_REF} if reference else {}
    return allocated(module.Interpreter, data, threads, where, **options)[0]


def _computed(interpreter: Any, inputs: dict[int, Array], outputs: Sequence[int], where: str) -> list[Array]:
    try:
        for index, values in inputs.items():
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{where}: the interpreter failed on it: {error}") from error
