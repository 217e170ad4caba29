"""Give tensors the range of the concatenation, maximum or clip that alone reads them.

Integer kernels of these ops want all inputs in the parameters of the output, and a tensor in others has to be
quantized a second time first. What nothing else reads is better quantized by those parameters at once: that loses
nothing, and the second step is left out. A clip to [low, high] then costs nothing at all, since the integers of its
input saturate there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.graph.graph import OpKind
from mbn_deploy.graph.quantized import SHARED_PARAMS
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange

# Ops of one input that keep the parameters and commute with saturation, so that their input may get the range, too.
_COMMUTES: frozenset[OpKind] = frozenset({"reshape", "max_pool", "global_max_pool"})


def shared_ranges(state: CalibratedGraph) -> CalibratedGraph:
    """Return `state` with the ranges of such tensors replaced by that of the whole output."""
    readers, ranges = state.graph.readers(), dict(state.ranges)
    shared: dict[str, tuple[float, float]] = {}
    for op in reversed(state.graph.ops):
        if op.kind in SHARED_PARAMS:
            low, high = shared.get(op.output, _hull(state, op.output))
        elif op.kind in _COMMUTES and op.output in shared:
            low, high = shared[op.output]
        else:
            continue
        for name in op.inputs:
            if len(readers[name]) == 1 and name != state.graph.input and name not in state.floors:
                shared[name] = low, high
                ranges[name] = _filled(ranges[name], low, high)
    return replace(state, ranges=ranges)


def _hull(state: CalibratedGraph, name: str) -> tuple[float, float]:
    low, high = state.useful(name)
    return float(low.min()), float(high.max())


def _filled(seen: ChannelRange, low: float, high: float) -> ChannelRange:
    return replace(seen, low=np.full_like(seen.low, low), high=np.full_like(seen.high, high))
