"""Choose the ops of a mixed-precision graph that stay in float or get activations of 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.errors import UnknownNameError
from mbn_deploy.graph.graph import Graph, Op

# Lowering (`hard_swish`, `bounds`) names the ops that it adds to a layer LAYER/gate and so on.
LOWERED_PARTS = frozenset({"gate", "sixth", "bound", "unbounded"})


def float_outputs(graph: Graph, blocks: int, layers: Sequence[str]) -> frozenset[str]:
    """Return the outputs of the ops in the first `blocks` blocks and of the `layers` (names of ops or outputs).

    Raises:
        UnknownNameError: the graph has no such layer.
    """
    return frozenset([*_first_blocks(graph, blocks), *layer_outputs(graph, layers)])


def layer_outputs(graph: Graph, layers: Sequence[str]) -> list[str]:
    """Return the outputs of the ops whose own or whose output's name is one of `layers`; errors as `float_outputs`."""
    outputs = []
    for name in layers:
        named = [op.output for op in graph.ops if name in (op.name, op.output)]
        if not named:
            raise UnknownNameError("layer", name, [known for op in graph.ops for known in (op.output, op.name)])
        outputs += named
    return outputs


def int16_outputs(graph: Graph, layers: Sequence[str]) -> frozenset[str]:
    """Return the outputs of the ops of `layers` in the lowered `graph`, including the ops that lowering added."""
    return frozenset(op.output for op in graph.ops if not {*_origins(op.name), *_origins(op.output)}.isdisjoint(layers))


def _origins(name: str) -> tuple[str, ...]:
    """Return the name itself and, for an op that lowering added (`conv/gate`), the name of its layer."""
    outer, _, part = name.rpartition("/")
    return (name, outer) if part in LOWERED_PARTS else (name,)


def _first_blocks(graph: Graph, blocks: int) -> list[str]:
    """Return the outputs of all ops up to the end of block number `blocks`.

    A block ends with its projection, a linear pointwise convolution (V2, V3). In a network without projections (V1)
    it ends with a pointwise convolution and its ReLU6.
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
    """Return whether `op` is a 1x1 convolution on an image, not on a vector as in squeeze-and-excitation."""
    shape = graph.shapes[op.output]
    return op.kind == "conv" and op.weights()[0].shape[:2] == (1, 1) and shape[1] * shape[2] > 1


def _expands(graph: Graph, at: int) -> bool:
    """Return whether an op of its own (h-swish) activates the result: then this is an expansion, not a projection."""
    return any(reader.kind in ("hard_swish", "sigmoid") for reader in graph.readers()[graph.ops[at].output])
