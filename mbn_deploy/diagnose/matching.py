"""Which tensors of a quantized file mean what a tensor of the float file means, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.diagnose.file_graph import FileGraph, FileOp
from mbn_deploy.graph.graph import Shape

HARD_SWISH_FLOOR = -3.0  # h-swish is 0 below: integers may saturate there, and lose nothing
PADDING = frozenset({"PAD", "Pad"})
_HARD_SWISH = frozenset({"HARD_SWISH", "HardSwish"})
_SUMS = frozenset({"ADD", "Add"})
_POOLS = frozenset({"MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "GlobalAveragePool", "AveragePool", "MaxPool"})
STORAGE = frozenset({"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "Identity"})


@dataclass(frozen=True, eq=False)
class MatchedTensor:
    """A tensor that both files have under `name`; the quantized one keeps its integers in `stored`.

    `label` is what it is shown as: the layer's name where `name` is a step inside the layer.
    `floor`: values below make no difference. `segment` are the ops of the quantized file, in order,
    from the points before to this one.
    """

    name: str
    label: str
    stored: str
    floor: float | None
    segment: tuple[FileOp, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """Kinds of the ops that compute."""
        return tuple(op.kind for op in _computing(self))

    @property
    def writer(self) -> str:
        """What the last op that computes calls its result."""
        return next((op.output for op in reversed(_computing(self))), self.stored)

    @property
    def layer(self) -> str:
        """The layer that does the work, where one does; else the tensor's own name."""
        own = _computing(self)
        return own[0].layer if len(own) == 1 and own[0].kernel is not None else self.label


def _computing(point: MatchedTensor) -> list[FileOp]:
    kept = [op for op in point.segment if op.kind not in STORAGE and not op.moves_only]
    return [op for op in kept if not (op.kind == "Clip" and len(kept) > 1)]


def match(quantized: FileGraph, reference: FileGraph) -> list[MatchedTensor]:
    """Every tensor of one name and one shape in both files, but for inputs and reshapes, in order.

    Names are the layers' where this project wrote the files, and agree where one converter wrote both.
    Tensors with another number of channels have been rewritten: they are no points.
    """
    makers = quantized.writers()
    theirs = {op.output: op for op in reference.ops}
    readers, swishes = quantized.readers(), reference.readers()
    found: dict[str, tuple[str, float | None]] = {}
    for op in quantized.ops:
        name = op.output
        if name not in theirs or theirs[name].moves_only or op.moves_only:
            continue
        if _essential(quantized.shapes.get(name)) != _essential(reference.shapes.get(name)):
            continue
        stored = _stored(name, makers, readers)
        reading = swishes.get(name, [])
        floor = HARD_SWISH_FLOOR if reading and all(r.kind in _HARD_SWISH for r in reading) else None
        if stored != quantized.input:
            found.setdefault(stored, (name, floor))
    ends = set(found)
    order = [op.output for op in quantized.ops if op.output in ends]
    compared = {name for name, _ in found.values()}
    points = []
    for stored in order:
        name, floor = found[stored]
        outer = name.rpartition("/")[0]
        label = outer if is_part(name, reference) and outer not in compared else name
        points.append(MatchedTensor(name, label, stored, floor, _segment(stored, makers, ends, quantized)))
    return points


def is_part(name: str, network: FileGraph) -> bool:
    """Whether the tensor is a step inside another one's layer, as `conv/linear` is of `conv`."""
    return name.rpartition("/")[0] in network.shapes


def _essential(shape: Shape | None) -> tuple[int, ...] | None:
    """Without the batch and without axes of one: (N, 1, 1, C) and (N, C) hold the same."""
    return None if shape is None else tuple(n for n in shape[1:] if n != 1)


def _stored(name: str, makers: dict[str, FileOp], readers: dict[str, list[FileOp]]) -> str:
    """The integers of `name`: in front of its DequantizeLinear, or behind the QuantizeLinear that alone reads it."""
    if makers[name].kind == "DequantizeLinear":
        return makers[name].inputs[0]
    reading = readers.get(name, [])
    if len(reading) != 1 or reading[0].kind != "QuantizeLinear":
        return name
    quantized = reading[0].output
    behind = readers.get(quantized, [])
    return behind[0].output if len(behind) == 1 and behind[0].kind == "Clip" else quantized


def _segment(end: str, makers: dict[str, FileOp], ends: set[str], network: FileGraph) -> tuple[FileOp, ...]:
    inside: set[str] = set()
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name in makers and name not in inside and (name == end or name not in ends):
            inside.add(name)
            waiting += makers[name].inputs
    return tuple(op for op in network.ops if op.output in inside)


def movable(network: FileGraph) -> frozenset[str]:
    """Tensors that reach layers only, through sums and pooling at most: `absorb` may have shifted them."""
    found: set[str] = set()
    readers_of = network.readers()
    for op in reversed(network.ops):
        readers = readers_of.get(op.output, [])
        if (
            op.output != network.output
            and readers
            and all(reader.kernel is not None or _hands_on(reader, found) for reader in readers)
        ):
            found.add(op.output)
    return frozenset(found)


def _hands_on(op: FileOp, movable_tensors: set[str]) -> bool:
    """Whether a shift of what it reads, of two tensors if it adds, is a shift of what it writes, and may be."""
    carries = op.kind in _POOLS | STORAGE or op.moves_only or (op.kind in _SUMS and len(op.inputs) > 1)
    return carries and op.output in movable_tensors
