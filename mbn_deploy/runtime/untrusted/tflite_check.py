"""Check a .tflite file of unknown origin before an interpreter opens it.

Interpreters verify the flatbuffer and little of the graph in it: an op without its last input crashes the process.
Here every op must be one that image classifiers are made of, with its inputs, types, shapes and strides, and the graph
must need no more memory and work than an image classifier does. `tflite_file` has the checks that every file goes
through; both read the fields of schema.fbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, UnsuitableError, damage_named, root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER, LARGEST_TENSOR, TYPE_BYTES, read_metadata
from mbn_deploy.runtime.untrusted.flatbuffer_check import StructureCheck
from mbn_deploy.runtime.untrusted.tflite_rules import Node, Tensor, check_node
from mbn_deploy.runtime.untrusted.tflite_schema import NAMES, OPERATIONS, OTHER_NAMES

LARGEST_WORK = 2**38  # multiplications: some hundred times those of the largest networks that phones run
_FIRST_CODE_LIMIT = 127  # `deprecated_builtin_code` holds no more; larger ones stand in `builtin_code`
_CUSTOM = 32
_SPARSITY = 6
_SYMMETRIC = (2, 7)  # INT32, INT16: kernels take their zero points for 0


def check_tflite(data: bytes, where: str) -> None:
    """Raise `InputError` that names `where` for a file that could crash an interpreter."""
    with damage_named(where):
        model = root(data, IDENTIFIER)
        StructureCheck(data).run()
        read_metadata(data, where)  # indices have targets from here on
        buffers = model.tables(4)
        for graph in model.tables(2):
            _Graph(model, graph, buffers).check()
        _check_signatures(model)


@dataclass(frozen=True)
class _Graph:
    """One graph of the file."""

    model: Table
    graph: Table
    buffers: Sequence[Table]

    def check(self) -> None:
        """Check the ops one after another, and the memory of the tensors that are alive between them."""
        tensors = [self._tensor(table) for table in self.graph.tables(0)]
        codes = [_code(table) for table in self.model.tables(1)]
        nodes = [self._node(operator, codes, tensors) for operator in self.graph.tables(3)]
        self._check_order(nodes, len(tensors))
        work = sum(check_node(node) for node in nodes)
        if work > LARGEST_WORK:
            raise UnsuitableError(f"it asks for {work:.1e} multiplications, too many for any picture classifier")
        self._check_memory(nodes, tensors)

    def _tensor(self, table: Table) -> Tensor:
        name = table.text(3)
        if table.table(_SPARSITY) is not None:
            raise UnsuitableError(f"tensor {name!r} is sparse, which is run in a bundle's files only")
        shape = tuple(int(n) for n in table.numbers(0, "i"))
        kind = table.scalar(1, "b", 0)
        if kind not in TYPE_BYTES and kind not in (17, 18):  # INT4, UINT4
            raise UnsuitableError(f"tensor {name!r} has type {kind}, which no picture classifier needs")
        buffer = self.buffers[table.scalar(2, "I", 0)]
        quantization = table.table(4)
        scales: tuple[float, ...] = () if quantization is None else quantization.numbers(2, "f")
        axis = 0 if quantization is None else quantization.scalar(6, "i", 0)
        if quantization is not None and quantization.scalar(4, "B", 0):
            raise UnsuitableError(f"tensor {name!r} is quantized in a way that no picture classifier needs")
        zeros = 0 if quantization is None else quantization.vector(3, 8)[1]
        if kind in _SYMMETRIC and quantization is not None and any(quantization.numbers(3, "q")):
            raise UnsuitableError(f"tensor {name!r} has a zero point, which its type takes in no picture classifier")
        free = -1 in table.numbers(7, "i") or not shape
        return Tensor(name, shape, kind, buffer.blob(0), scales, axis, zeros, free=free)

    def _node(self, operator: Table, codes: Sequence[int], tensors: Sequence[Tensor]) -> Node:
        code = codes[operator.scalar(0, "I", 0)]
        if code not in NAMES:
            name = OTHER_NAMES.get(code, f"number {code}")
            raise UnsuitableError(f"it has the operation {name}, which is run in a bundle's files only")
        rule, kind = OPERATIONS[NAMES[code]], NAMES[code]
        read = [int(i) for i in operator.numbers(1, "i")]
        written = [int(i) for i in operator.numbers(2, "i")]
        missing = min((number for number, index in enumerate(read) if index < 0), default=len(read))
        if missing < rule.needed or len(read) > rule.inputs or not 1 <= len(written) <= rule.outputs:
            raise DamagedError(f"{kind} has {missing} of {len(read)} inputs and {len(written)} outputs")
        inputs = tuple(None if i < 0 else tensors[i] for i in read)
        outputs = tuple(tensors[i] for i in written)
        return Node(kind, inputs, outputs, operator.scalar(3, "B", 0), operator.table(4), tuple(read), tuple(written))

    def _check_order(self, nodes: Sequence[Node], count: int) -> None:
        """Check that every tensor is written once at most, constants and inputs never."""
        written = bytearray(count)
        for index in self.graph.numbers(1, "i"):
            written[int(index)] = 1
        for node in nodes:
            for index, tensor in zip(node.written, node.outputs, strict=True):
                if written[index] or tensor.data:
                    raise DamagedError(f"tensor {tensor.name!r} is written to although something stands in it")
                written[index] = 1

    def _check_memory(self, nodes: Sequence[Node], tensors: Sequence[Tensor]) -> None:
        sizes = [0 if tensor.data else tensor.size for tensor in tensors]
        last = {index: number for number, node in enumerate(nodes) for index in node.read}
        alive = sum(sizes[int(i)] for i in self.graph.numbers(1, "i"))
        for number, node in enumerate(nodes):
            alive += sum(sizes[index] for index in node.written)
            if alive > LARGEST_TENSOR:
                raise UnsuitableError(f"it needs {alive / 1e6:.0f} MB at once, too much for any picture classifier")
            alive -= sum(sizes[i] for i in {*node.read, *node.written} if last.get(i, -1) <= number and i >= 0)


def _code(table: Table) -> int:
    """Return the op's code. Files before schema 3a have it in the first field; large codes are in another."""
    first, later = table.scalar(0, "b", 0), table.scalar(3, "i", 0)
    version = table.scalar(2, "i", 1)
    if not 1 <= version <= 100 or first < 0:
        raise DamagedError(f"an operation has code {first} and version {version}")
    code = later if first == _FIRST_CODE_LIMIT else max(first, later)
    if code == _CUSTOM or table.blob(1):
        raise UnsuitableError(f"{table.text(1)!r} is an operation of somebody's own")
    return code


def _check_signatures(model: Table) -> None:
    graphs = model.tables(2)
    for signature in model.tables(7):
        index = signature.scalar(4, "I", 0)
        if index >= len(graphs):
            raise DamagedError(f"a signature is for graph {index}, there are {len(graphs)}")
        count = graphs[index].vector(0, 4)[1]
        for entry in (*signature.tables(0), *signature.tables(1)):
            if entry.scalar(1, "I", 0) >= count:
                raise DamagedError(f"a signature names tensor {entry.scalar(1, 'I', 0)}, there are {count}")
