"""Match tensors of a quantized file with tensors of the float file, and find the operations between them."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.diagnose.file_graph import FileGraph, FileOp
from mbn_deploy.graph.graph import Shape

HARD_SWISH_FLOOR = -3.0  # h-swish is 0 below this: integers may saturate here without loss
PADDING = frozenset({"PAD", "Pad"})
_CLIPS = frozenset({"MAXIMUM", "MINIMUM", "Clip"})
_HARD_SWISH = frozenset({"HARD_SWISH", "HardSwish"})
STORAGE = frozenset({"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "Identity"})


@dataclass(frozen=True, eq=False)
class MatchedTensor:
    """A tensor that both files have.

    Attributes:
        name: its name in both files.
        label: the name to show: that of the layer if `name` is a step inside the layer.
        stored: the tensor of the quantized file that holds its integers.
        floor: a value below which differences have no effect, if there is one.
        segment: the operations of the quantized file, in order, between the matched tensors before and this one.
    """

    name: str
    label: str
    stored: str
    floor: float | None
    segment: tuple[FileOp, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """The kinds of the operations in the segment that compute something."""
        return tuple(op.kind for op in self._computing)

    @property
    def layer(self) -> str:
        """The layer of the only computing operation if that has weights, else the tensor's label."""
        own = self._computing
        return own[0].layer if len(own) == 1 and own[0].kernel is not None else self.label

    @property
    def _computing(self) -> list[FileOp]:
        kept = [op for op in self.segment if op.kind not in STORAGE and not op.moves_only]
        return [op for op in kept if not (op.kind == "Clip" and len(kept) > 1)]


def match(quantized: FileGraph, reference: FileGraph) -> list[MatchedTensor]:
    """Return the tensors with the same name and shape in both files, in order, without inputs and reshapes.

    Files of this project name tensors after layers; names also agree if one converter wrote both files. A tensor with
    another number of channels was rewritten and does not match.
    """
    writers = quantized.writers()
    reference_writers = reference.writers()
    readers, reference_readers = quantized.readers(), reference.readers()
    matches: dict[str, tuple[str, float | None]] = {}
    for op in quantized.ops:
        name = op.output
        if name not in reference_writers or reference_writers[name].moves_only or op.moves_only:
            continue
        if essential_shape(quantized.shapes.get(name)) != essential_shape(reference.shapes.get(name)):
            continue
        stored = stored_tensor(name, writers, readers)
        reading = reference_readers.get(name, [])
        if reading and all(r.kind in _CLIPS and len(r.inputs) == 1 for r in reading):
            continue  # its integers saturate where the clip of it begins
        floor = HARD_SWISH_FLOOR if reading and all(r.kind in _HARD_SWISH for r in reading) else None
        if stored != quantized.input:
            matches.setdefault(stored, (name, floor))
    ends = set(matches)
    names = {name for name, _ in matches.values()}
    tensors = []
    for stored in (op.output for op in quantized.ops if op.output in ends):
        name, floor = matches[stored]
        layer = name.rpartition("/")[0]
        label = layer if is_part(name, reference) and layer not in names else name
        segment = _segment(stored, writers, ends, quantized)
        tensors.append(MatchedTensor(name=name, label=label, stored=stored, floor=floor, segment=segment))
    return tensors


def is_part(name: str, graph: FileGraph) -> bool:
    """Return whether the tensor is a step inside another tensor's layer, as `conv/linear` is of `conv`."""
    return name.rpartition("/")[0] in graph.shapes


def essential_shape(shape: Shape | None) -> tuple[int, ...] | None:
    """Return the shape without the batch and without axes of length 1: (N, 1, 1, C) and (N, C) hold the same."""
    return None if shape is None else tuple(n for n in shape[1:] if n != 1)


def stored_tensor(name: str, writers: dict[str, FileOp], readers: dict[str, list[FileOp]]) -> str:
    """Return the tensor that holds the integers of `name`, or `name` itself if there is none.

    In ONNX files it is the input of the DequantizeLinear that writes `name`, or the output of the QuantizeLinear (and
    of a Clip behind it) that is the only one to read `name`.
    """
    if writers[name].kind == "DequantizeLinear":
        return writers[name].inputs[0]
    reading = readers.get(name, [])
    if len(reading) != 1 or reading[0].kind != "QuantizeLinear":
        return name
    quantized = reading[0].output
    behind = readers.get(quantized, [])
    return behind[0].output if len(behind) == 1 and behind[0].kind == "Clip" else quantized


def _segment(end: str, writers: dict[str, FileOp], ends: set[str], graph: FileGraph) -> tuple[FileOp, ...]:
    inside: set[str] = set()
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name in writers and name not in inside and (name == end or name not in ends):
            inside.add(name)
            waiting += writers[name].inputs
    return tuple(op for op in graph.ops if op.output in inside)
