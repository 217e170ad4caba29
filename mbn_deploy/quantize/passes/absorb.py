"""High-bias absorption: the channels of a tensor are shifted to a common centre.

Each channel of a linear tensor may be lowered by a constant: the bias of the convolution that writes it is lowered,
and the biases of the convolutions that read it make up for that (arXiv 1906.04721, section 4.1.3). The float function
stays the same, and the range that all channels need together gets smaller. A sum is lowered by the sum of its
summands' constants, and pooling leaves constants as they are. Tensors that a padded convolution, a gate or an
activation op reads are not shifted; of a padded convolution, for example, the zeros of the border would have to be
shifted, too.

The paper shifts ReLU outputs, by what lies three deviations below the mean, and accepts a change of the function
where a value is lower. Here the function must not change, and so ReLU outputs are not shifted: that they never fall
below some bound is known of the calibration images only, and in these networks the channels with such a bound are not
those with wide ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.quantize.ranges import CalibratedGraph

KEEPS_CONSTANTS = frozenset({"add", "global_average_pool", "global_max_pool", "average_pool", "max_pool"})
# Shifts between the one that centres a summand (1) and the one that centres the sum (0) are tried.
_BLENDS = np.linspace(0.0, 1.0, 5)

Shifts = dict[str, Doubles]  # by tensor: by how much each channel is lowered


def absorb(state: CalibratedGraph) -> CalibratedGraph:
    """Centre the channels of linear tensors where that shrinks ranges; the float function stays the same."""
    for names in movable(state.graph):
        shifts = centring_shifts(state, names)
        if squared_spans(state, shifts) < squared_spans(state, dict.fromkeys(names, np.zeros(1))):
            state = state.shifted(shift(state.graph, shifts), shifts)
    return state


def movable(graph: Graph) -> list[tuple[str, ...]]:
    """Return the sets of tensors that may be shifted together, connected by sums and pooling, in graph order."""
    tied = {name: {name} for name in graph.shapes}
    fixed = {graph.input, graph.output}
    for op in graph.ops:
        if op.kind in WEIGHTED:
            fixed |= {op.inputs[0]} if any(op.pads) else set()
            fixed |= {op.output} if op.activation != "none" else set()
        elif op.kind in KEEPS_CONSTANTS and op.activation == "none":
            joined = set().union(*(tied[name] for name in (*op.inputs, op.output)))
            tied |= dict.fromkeys(joined, joined)
        else:
            fixed |= {*op.inputs, op.output}
    order = {name: at for at, name in enumerate(graph.shapes)}
    sets = dict.fromkeys(tuple(sorted(names, key=order.__getitem__)) for names in tied.values())
    return [names for names in sets if not fixed.intersection(names)]


def shift(graph: Graph, shifts: Mapping[str, Doubles]) -> Graph:
    """Lower every tensor in `shifts` by its constants (channels,); the function of the graph stays the same.

    The shift of a sum must be the sum of its summands' shifts, that of a pooled tensor the shift of its source.
    """
    return graph.with_ops(_shifted(op, shifts) if op.kind in WEIGHTED else op for op in graph.ops)


def _shifted(op: Op, shifts: Mapping[str, Doubles]) -> Op:
    kernel, bias = (values.astype(np.float64) for values in op.weights())
    if op.inputs[0] in shifts:
        bias = bias + response_to_constants(op, kernel, shifts[op.inputs[0]])
    if op.output in shifts:
        bias = bias - shifts[op.output]
    return replace(op, bias=bias.astype(np.float32))


def response_to_constants(op: Op, kernel: Doubles, constants: Doubles) -> Doubles:
    """Return the output (outputs,) of an unpadded weighted op, without bias, for an input that is constant in space."""
    if op.kind == "depthwise":
        return np.asarray((kernel.sum((0, 1)) * constants[:, None]).reshape(-1))
    return np.asarray(constants @ kernel.sum(tuple(range(kernel.ndim - 2))))


def centring_shifts(state: CalibratedGraph, names: tuple[str, ...]) -> Shifts:
    """Choose shifts for a set of tensors: freely for outputs of convolutions, from which those of sums follow."""
    readers, shifts = state.graph.readers(), Shifts()
    for op in state.graph.ops:
        if op.output not in names:
            continue
        if op.kind in WEIGHTED:
            sums = sums_with_known_shifts(readers[op.output], op.output, shifts)
            shifts[op.output] = best_shift(state, op.output, sums)
        else:
            shifts[op.output] = np.sum([shifts[name] for name in op.inputs], axis=0)
    return shifts


def sums_with_known_shifts(readers: list[Op], name: str, shifts: Shifts) -> Shifts:
    """Return the sums among `readers` that add the tensor `name` to one in `shifts`, with the shift of the latter."""
    others = {op.output: next((i for i in op.inputs if i != name), name) for op in readers if op.kind == "add"}
    return {total: shifts[other] for total, other in others.items() if other in shifts}


def best_shift(state: CalibratedGraph, name: str, sums: Shifts) -> Doubles:
    """Return the shift between the tensor's own centre and those of the `sums` with the least noise in all of them."""
    own = _centre(state, name)
    centres = [own, *(_centre(state, total) - other for total, other in sums.items())]
    choices = [blend * own + (1 - blend) * centre for centre in centres for blend in _BLENDS]

    def noise(choice: Doubles) -> float:
        return squared_spans(state, {name: choice, **{total: choice + other for total, other in sums.items()}})

    return min(choices, key=noise)


def _centre(state: CalibratedGraph, name: str) -> Doubles:
    seen = state.ranges[name]
    return (seen.low + seen.high) / 2


def squared_spans(state: CalibratedGraph, shifts: Mapping[str, Doubles]) -> float:
    """Return the sum of the squared spans of the shifted tensors, to which their rounding noise is proportional."""
    return sum(shifted_span(state, name, constants) ** 2 for name, constants in shifts.items())


def shifted_span(state: CalibratedGraph, name: str, constants: Doubles) -> float:
    """Return the length of the range of all channels, zero included, lowered by `constants`."""
    seen = state.ranges[name]
    return float(max((seen.high - constants).max(), 0.0) - min((seen.low - constants).min(), 0.0))
