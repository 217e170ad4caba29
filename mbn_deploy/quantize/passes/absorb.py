"""High-bias absorption: channels that share a scale get to lie around one centre.

Each channel of a linear tensor may be lowered by a constant: the bias of the convolution before takes
it, the biases of those behind give it back (arXiv 1906.04721, section 4.1.3). The function stays, and
the range that all channels need together gets smaller. A sum is lowered by what its summands are lowered
by; pooling hands constants on. A tensor that a padded convolution, a gate or an activation of its own reads
stays as it is: the zeros of a border, for one, would have to move as well.

The paper moves outputs of ReLU, by what lies three deviations below the mean, and lets the function change
where a value is lower still. Here it must not change. That a ReLU never gives less than some bound is known
of the calibration images only, and in these networks the channels that have such a bound are not the wide
ones: ReLU outputs stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.quantize.ranges import Calibrated

HANDS_ON = frozenset({"add", "global_average_pool", "global_max_pool", "average_pool", "max_pool"})
# From the centre of a summand (1) to what centres the sum (0): the best for one is not always that for both.
_BLENDS = np.linspace(0.0, 1.0, 5)

Shifts = dict[str, Doubles]  # by tensor: how far each channel is lowered


def absorb(state: Calibrated) -> Calibrated:
    """Centre the channels of linear tensors where that shrinks ranges; the float function stays the same."""
    for names in movable(state.graph):
        shifts = _centring(state, names)
        if _noise(state, shifts) < _noise(state, dict.fromkeys(names, np.zeros(1))):
            state = state.shifted(shift(state.graph, shifts), shifts)
    return state


def movable(graph: Graph) -> list[tuple[str, ...]]:
    """Sets of tensors tied together by sums and pooling that may be shifted, in the order of the graph."""
    tied = {name: {name} for name in graph.shapes}
    fixed = {graph.input, graph.output}
    for op in graph.ops:
        if op.kind in WEIGHTED:
            fixed |= {op.inputs[0]} if any(op.pads) else set()
            fixed |= {op.output} if op.activation != "none" else set()
        elif op.kind in HANDS_ON and op.activation == "none":
            joined = set().union(*(tied[name] for name in (*op.inputs, op.output)))
            tied |= dict.fromkeys(joined, joined)
        else:
            fixed |= {*op.inputs, op.output}
    order = {name: at for at, name in enumerate(graph.shapes)}
    found = dict.fromkeys(tuple(sorted(names, key=order.__getitem__)) for names in tied.values())
    return [names for names in found if not fixed.intersection(names)]


def shift(graph: Graph, shifts: Mapping[str, Doubles]) -> Graph:
    """The same function with every tensor in `shifts` lowered by its constants, one a channel.

    The shift of a sum must be the sum of the shifts of its summands, that of a pooled tensor what was pooled.
    """
    return graph.with_ops(_shifted(op, shifts) if op.kind in WEIGHTED else op for op in graph.ops)


def _shifted(op: Op, shifts: Mapping[str, Doubles]) -> Op:
    kernel, bias = (values.astype(np.float64) for values in op.weights())
    if op.inputs[0] in shifts:
        bias = bias + given_back(op, kernel, shifts[op.inputs[0]])
    if op.output in shifts:
        bias = bias - shifts[op.output]
    return replace(op, bias=bias.astype(np.float32))


def given_back(op: Op, kernel: Doubles, constants: Doubles) -> Doubles:
    """What an unpadded weighted op makes of an input that is `constants` everywhere, (outputs,)."""
    if op.kind == "depthwise":
        return np.asarray((kernel.sum((0, 1)) * constants[:, None]).reshape(-1))
    return np.asarray(constants @ kernel.sum(tuple(range(kernel.ndim - 2))))


def _centring(state: Calibrated, names: tuple[str, ...]) -> Shifts:
    """Shifts for a set of tensors, chosen along the graph: convolutions are free, what follows from them is not."""
    readers, shifts = state.graph.readers(), Shifts()
    for op in state.graph.ops:
        if op.output not in names:
            continue
        if op.kind in WEIGHTED:
            sums = _sums(readers[op.output], op.output, shifts)
            shifts[op.output] = _best(state, op.output, sums)
        else:
            shifts[op.output] = np.sum([shifts[name] for name in op.inputs], axis=0)
    return shifts


def _sums(readers: list[Op], name: str, shifts: Shifts) -> Shifts:
    """The sums that the tensor goes into, with the shift of the other summand where it is known already."""
    others = {op.output: next((i for i in op.inputs if i != name), name) for op in readers if op.kind == "add"}
    return {total: shifts[other] for total, other in others.items() if other in shifts}


def _best(state: Calibrated, name: str, sums: Shifts) -> Doubles:
    """The shift between the tensor's own centre and those of the sums that leaves the least noise in all."""
    own = _centre(state, name)
    wanted = [own, *(_centre(state, total) - other for total, other in sums.items())]
    choices = [blend * own + (1 - blend) * centre for centre in wanted for blend in _BLENDS]
    return min(choices, key=lambda c: _noise(state, {name: c, **{total: c + other for total, other in sums.items()}}))


def _centre(state: Calibrated, name: str) -> Doubles:
    seen = state.ranges[name]
    return (seen.low + seen.high) / 2


def _noise(state: Calibrated, shifts: Mapping[str, Doubles]) -> float:
    """The squared steps of tensors whose values add up, in units of 12 * LEVELS^2."""
    return sum(_span(state, name, constants) ** 2 for name, constants in shifts.items())


def _span(state: Calibrated, name: str, constants: Doubles) -> float:
    """Length of the range of all channels, zero included, once they are shifted."""
    seen = state.ranges[name]
    return float(max((seen.high - constants).max(), 0.0) - min((seen.low - constants).min(), 0.0))
