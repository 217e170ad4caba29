"""Cross-layer equalization: channels that share a tensor get similar ranges.

All channels of an activation share one scale, so a channel whose values stay small uses only few of the 256 levels.
Scaling it up costs nothing where the weights that read it can be scaled down (`channel_groups`): depthwise weights
with a scale a channel absorb the factor completely, pointwise weights in part, since their scale is shared by input
channels. The factors are those with the least predicted noise (`rescaling_noise`) out of some candidates. The paper
(arXiv 1906.04721, section 4.1) equalizes the ranges of weights by a fixed rule; here weights have a scale a channel,
and the activations matter.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Op
from mbn_deploy.graph.quantized import INT8_STEPS
from mbn_deploy.quantize.channel_groups import ChannelGroup, channel_groups, rescale
from mbn_deploy.quantize.integers import Granularity
from mbn_deploy.quantize.passes.rescaling_noise import RescalingNoise, largest_written, weight_columns
from mbn_deploy.quantize.ranges import CalibratedGraph

MAX_FACTOR = 64.0  # between the median channel and any other
FLOOR = 1e-3  # of the largest span: what lies below is noise and gets no factor of its own
_TINY = np.finfo(np.float64).tiny
# Exponents to try: towards equal activations, towards equal weights that read, towards equal weights that write.
# With one scale for all output channels the convolution that writes a channel matters, too, and through it the choices
# for the groups depend on each other: there are several sweeps, with fewer candidates each.
_EXPONENTS = {
    "per-channel": (np.linspace(0.0, 1.0, 11), np.linspace(0.0, 1.0, 5), np.zeros(1)),
    "per-tensor": (np.linspace(0.0, 1.0, 6), np.linspace(0.0, 1.0, 3), np.linspace(0.0, 1.0, 6)),
}
_SWEEPS = {"per-channel": 1, "per-tensor": 4}


def equalize(
    state: CalibratedGraph, granularity: Granularity = "per-channel", steps: int = INT8_STEPS
) -> CalibratedGraph:
    """Rescale every group of channels of `state`; the float function stays the same.

    The factors are chosen for weights of this granularity and for activations with so many quantization steps.
    """
    for _ in range(_SWEEPS[granularity]):
        for group in channel_groups(state.graph):
            factors = _best_factors(state, group, granularity, steps)
            if factors is not None:
                state = state.rescaled(rescale(state.graph, group, factors), group.tensors, factors)
    return state


def _best_factors(state: CalibratedGraph, group: ChannelGroup, granularity: Granularity, steps: int) -> Doubles | None:
    readers = [op for op in state.graph.ops if op.kind in WEIGHTED and op.inputs[0] in group.tensors]
    span_choices = relative_spans(state, group, {op.inputs[0] for op in readers})
    if not readers or not span_choices:
        return None
    read = read_weight_spans(readers, group.channels, granularity)
    written = _written_weight_spans(state, group)
    candidates = [
        candidate_factors(spans**-a * read ** (r * (1 - a)), written, w)
        for spans, a, r, w in product(span_choices, *_EXPONENTS[granularity])
    ]
    noise = RescalingNoise.of(state, group, readers, granularity, steps)
    return min(candidates, key=noise.relative)


def candidate_factors(balance: Doubles, written: Doubles, to_writers: float) -> Doubles:
    """Return factors (C,) with a median of 1, clipped to `MAX_FACTOR`.

    They lie between `balance`, which suits the activations and the weights that read them, and what makes the weights
    that write the channels equal, whose spans are `written`; `to_writers` is 0 for the former and 1 for the latter.
    """
    factors = balance ** (1 - to_writers) * written**-to_writers
    return np.asarray(np.clip(factors / np.median(factors), 1 / MAX_FACTOR, MAX_FACTOR))


def relative_spans(state: CalibratedGraph, group: ChannelGroup, read: set[str]) -> list[Doubles]:
    """Return each channel's range over that of its tensor, (C,), in two versions; none if all channels are zero.

    The first has the maximum over all tensors of the group, the second over those in `read`. They differ behind
    pooling: averages span less than the values that are averaged.
    """
    choices = []
    for names in (group.tensors, [name for name in group.tensors if name in read]):
        spans = np.zeros(group.channels)
        for name in names:
            low, high = state.useful(name)
            span = high - low
            if span.max() > 0:
                spans = np.maximum(spans, span / span.max())
        if spans.max() > 0:
            choices.append(np.maximum(spans, FLOOR))
    return choices


def read_weight_spans(readers: list[Op], channels: int, granularity: Granularity) -> Doubles:
    """Return the largest weight that reads each channel, relative to the largest of its op, (C,).

    Depthwise weights with a scale a channel are ignored: no factor changes how they are rounded.
    """
    spans = np.zeros(channels)
    for op in readers:
        if op.kind != "depthwise" or granularity == "per-tensor":
            largest = np.abs(weight_columns(op, channels)).max((0, 2))
            spans = np.maximum(spans, largest / max(largest.max(), _TINY))
    return np.maximum(spans, FLOOR) if spans.any() else np.ones(channels)


def _written_weight_spans(state: CalibratedGraph, group: ChannelGroup) -> Doubles:
    """Return the largest weight that writes each channel, relative to the largest of its op, (C,)."""
    spans = np.zeros(group.channels)
    for op in state.graph.ops:
        if op.kind in WEIGHTED and op.output in group.tensors:
            largest = largest_written(op)
            spans = np.maximum(spans, largest / max(largest.max(), _TINY))
    return np.maximum(spans, FLOOR) if spans.any() else np.ones(group.channels)
