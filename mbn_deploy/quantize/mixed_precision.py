"""Which ops of a graph stay in float, by block or by layer name."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.errors import UnknownNameError
from mbn_deploy.graph.graph import Graph, Op

# How lowering calls what it puts beside a layer (`hard_swish`, `bounds`).
LOWERED_PARTS = frozenset({"gate", "sixth", "bound", "unbounded"})


def float_region(graph: Graph, blocks: int, layers: Sequence[str]) -> frozenset[str]:
    """Outputs of the ops in the first `blocks` blocks, and of the `layers` called by name (of op or output)."""
    chosen = set(_first_blocks(graph, blocks))
    for name in layers:
        found = [op.output for op in graph.ops if name in (op.name, op.output)]
        if not found:
            raise UnknownNameError("layer", name, [known for op in graph.ops for known in (op.output, op.name)])
        chosen.update(found)
    return frozenset(chosen)


def wide_region(graph: Graph, layers: Sequence[str]) -> frozenset[str]:
    """Outputs of the ops of `layers` in the lowered `graph`: those that lowering wrote in their place, too."""
    return frozenset(op.output for op in graph.ops if not {*_origins(op.name), *_origins(op.output)}.isdisjoint(layers))


def _origins(name: str) -> tuple[str, ...]:
    """A name, and that of the layer that lowering made a part of it from (`conv/gate`, `swish/sixth`)."""
    outer, _, part = name.rpartition("/")
    return (name, outer) if part in LOWERED_PARTS else (name,)


def _first_blocks(graph: Graph, blocks: int) -> list[str]:
    """Everything up to the end of block number `blocks`.

    A block ends with its projection, a linear pointwise convolution (V2, V3); a network without
    any (V1) has blocks that end with a pointwise convolution and its ReLU6.
    """
    if blocks == 0:
        return []
    pointwise = [at for at, op in enumerate(graph.ops) if _pointwise(op, graph)]
    linear = [at for at in pointwise if graph.ops[at].activation == "none" and not _expands(graph, at)]
    ends = linear or pointwise
    if not ends:
        return []
    last = ends[min(blocks, len(ends)) - 1]
    return [op.output for op in graph.ops[: last + 1]]


def _pointwise(op: Op, graph: Graph) -> bool:
    """A 1x1 convolution on an image, not on a vector (as in squeeze-and-excitation)."""
    shape = graph.shapes[op.output]
    return op.kind == "conv" and op.weights()[0].shape[:2] == (1, 1) and shape[1] * shape[2] > 1


def _expands(graph: Graph, at: int) -> bool:
    """Whether an activation of its own follows (h-swish): then it is an expansion, and linear in the graph only."""
    return any(reader.kind in ("hard_swish", "sigmoid") for reader in graph.readers()[graph.ops[at].output])
