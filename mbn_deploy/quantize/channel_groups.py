"""Find tensors whose channels can be rescaled together, and rescale them without changing the function.

Multiplying channel c of a tensor by k_c and dividing the weights that read it by k_c leaves the function of the
network as it is if the ops in between commute with the factor: ReLU (also with a slope below zero), pooling, padding,
residual additions, maxima (whose inputs then share k) and products with a gate do; ReLU6, h-swish, softmax and the like
do not. A `ChannelGroup` is a set of tensors connected by such ops, with weighted ops on both sides (arXiv 1906.04721,
section 4.1, extended to chains).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op

_POOLING = frozenset({"global_average_pool", "global_max_pool", "average_pool", "max_pool"})
_KEEPS_FACTORS = _POOLING | {
    *("relu", "leaky_relu", "prelu", "pad", "add", "maximum", "minimum", "multiply", "reshape", "bound")
}
_TIES_INPUTS = frozenset({"add", "maximum", "minimum"})  # the inputs share their factors with the output
_BOUNDED = frozenset({"relu6", "unit"})


@dataclass(frozen=True)
class ChannelGroup:
    """Tensors that must share one factor a channel, and the number of channels."""

    tensors: tuple[str, ...]
    channels: int


def channel_groups(graph: Graph) -> list[ChannelGroup]:
    """Return every group whose factors may be chosen freely, in the order of the graph."""
    parents = {name: name for name in graph.shapes}
    fixed = {graph.input, graph.output}
    for op in graph.ops:
        if op.kind in WEIGHTED:
            fixed |= _fixed_by_weighted(op)
        elif _keeps_factors(op, graph):
            # The second factor of a product is its gate, which keeps its scale.
            tied = op.inputs if op.kind in _TIES_INPUTS else op.inputs[:1]
            for name in tied:
                parents[_root(parents, name)] = _root(parents, op.output)
            fixed |= {op.output} if op.activation in _BOUNDED else set()
            fixed |= set(op.inputs[1:]) if op.kind == "multiply" else set()
        else:
            fixed |= {*op.inputs, op.output}
    return _collect(graph, parents, fixed)


def _fixed_by_weighted(op: Op) -> set[str]:
    fixed = {op.output} if op.activation in _BOUNDED else set()
    if op.kind == "depthwise" and op.weights()[0].shape[3] != 1:
        fixed |= {op.inputs[0], op.output}  # channels and multiples are interleaved, which is not handled here
    return fixed


def _keeps_factors(op: Op, graph: Graph) -> bool:
    if op.kind == "reshape":  # (N, 1, 1, C) to (N, C), not one that mixes positions with channels
        before, after = graph.shapes[op.inputs[0]], graph.shapes[op.output]
        return before[-1] == after[-1] and before[0] * before[-1] == int(np.prod(before))
    tied = op.inputs if op.kind in _TIES_INPUTS else op.inputs[:1]
    if any(graph.shapes[name][-1] != graph.shapes[op.output][-1] for name in tied):
        return False  # one channel is added to all, or multiplied with all
    return op.kind in _KEEPS_FACTORS


def _root(parents: dict[str, str], name: str) -> str:
    while parents[name] != name:
        name = parents[name]
    return name


def _collect(graph: Graph, parents: dict[str, str], fixed: set[str]) -> list[ChannelGroup]:
    members: dict[str, list[str]] = {}
    for name in graph.shapes:
        members.setdefault(_root(parents, name), []).append(name)
    return [
        ChannelGroup(tuple(names), graph.shapes[names[0]][-1]) for names in members.values() if not fixed & set(names)
    ]


def rescale(graph: Graph, group: ChannelGroup, factors: Doubles) -> Graph:
    """Multiply every tensor of `group` by `factors` (channels,), all above 0; the function stays the same."""
    inside = set(group.tensors)
    ops = []
    for op in graph.ops:
        changed = op
        if op.kind == "bound" and op.output in inside and op.offset is not None:
            changed = replace(op, offset=op.offset * factors)
        if op.kind in WEIGHTED:
            if op.output in inside:
                changed = _scale_output(changed, factors)
            if op.inputs[0] in inside:
                changed = _scale_input(changed, 1 / factors)
        ops.append(changed)
    return graph.with_ops(ops)


def _scale_output(op: Op, factors: Doubles) -> Op:
    kernel, bias = op.weights()
    shaped = factors[:, None] if op.kind == "depthwise" else factors
    return replace(op, kernel=(kernel * shaped).astype(np.float32), bias=(bias * factors).astype(np.float32))


def _scale_input(op: Op, factors: Doubles) -> Op:
    return replace(op, kernel=(op.weights()[0] * factors[:, None]).astype(np.float32))
