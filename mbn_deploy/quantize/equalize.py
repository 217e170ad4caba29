"""Cross-layer equalization: channels that share a tensor get to share a range.

One scale serves all channels of an activation, so a channel whose values stay small keeps only few
of the 256 levels. Scaling it up costs nothing where the weights behind it can be scaled down
(`channels`); per-channel weights absorb it fully in a depthwise layer and partly in a pointwise
one, whose weights share a scale over input channels. The factors are chosen by the noise that
follows from them, not by a fixed rule (arXiv 1906.04721 equates weight ranges; here weights are
per-channel, and activations matter).
"""

from __future__ import annotations

from itertools import product

import numpy as np

from mbn_deploy.export.graph import WEIGHTED, Doubles, Op
from mbn_deploy.quantize.channels import ChannelGroup, channel_groups, rescale
from mbn_deploy.quantize.ranges import Calibrated
from mbn_deploy.quantize.scheme import LEVELS, WEIGHT_MAX

MAX_FACTOR = 64.0  # between the median channel and any other
FLOOR = 1e-3  # of the largest: what lies below is noise and gets no factor of its own
_TO_ACTIVATIONS = np.linspace(0.0, 1.0, 11)
_TO_WEIGHTS = np.linspace(0.0, 1.0, 5)


def equalize(state: Calibrated) -> Calibrated:
    """Choose factors for every group of `state`; the float function stays the same."""
    for group in channel_groups(state.graph):
        factors = _best_factors(state, group)
        if factors is not None:
            state = state.rescaled(rescale(state.graph, group, factors), group.tensors, factors)
    return state


def _best_factors(state: Calibrated, group: ChannelGroup) -> Doubles | None:
    readers = [op for op in state.graph.ops if op.kind in WEIGHTED and op.inputs[0] in group.tensors]
    span_choices = _span_choices(state, group, {op.inputs[0] for op in readers})
    if not readers or not span_choices:
        return None
    weights = _weight_spans(readers, group.channels)
    tried = [_candidate(spans, weights, a, w) for spans, a, w in product(span_choices, _TO_ACTIVATIONS, _TO_WEIGHTS)]
    noises = [sum(_relative_noise(state, group, op, factors) for op in readers) for factors in tried]
    return tried[int(np.argmin(noises))]


def _candidate(spans: Doubles, weights: Doubles, to_activations: float, to_weights: float) -> Doubles:
    """Factors that even out activations (exponent 1), or shrink the columns of large weights, or between."""
    factors = spans**-to_activations * weights ** (to_weights * (1 - to_activations))
    return np.asarray(np.clip(factors / np.median(factors), 1 / MAX_FACTOR, MAX_FACTOR))


def _span_choices(state: Calibrated, group: ChannelGroup, read: set[str]) -> list[Doubles]:
    """Each channel's range relative to its tensor's: the largest over the group, and over the tensors that are read.

    They differ where pooling stands between: averages span less than what they are taken of.
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


def _columns(op: Op, channels: int) -> Doubles:
    """Kernel as (taps, input channels, outputs), float64."""
    return op.weights()[0].astype(np.float64).reshape(-1, channels, op.weights()[0].shape[-1])


def _weight_spans(readers: list[Op], channels: int) -> Doubles:
    """Largest weight that reads each channel, relative; ones where only depthwise layers read."""
    spans = np.zeros(channels)
    for op in readers:
        if op.kind != "depthwise":
            largest = np.abs(_columns(op, channels)).max((0, 2))
            spans = np.maximum(spans, largest / max(largest.max(), np.finfo(np.float64).tiny))
    return np.maximum(spans, FLOOR) if spans.any() else np.ones(channels)


def _relative_noise(state: Calibrated, group: ChannelGroup, op: Op, factors: Doubles) -> float:
    """Noise power over signal power in the output of `op`, summed over outputs, for uniform rounding.

    Rounding to a step s adds s^2/12 a value. The activation's step follows from the largest scaled
    range; a pointwise layer's weight step of output o from its largest scaled weight.
    """
    seen = state.ranges[op.inputs[0]]
    columns = _columns(op, len(factors))
    squares = (columns**2).sum((0, 2))
    noise = (squares / factors**2 * _rounding_noise(state, group, op.inputs[0], factors)).sum()
    if op.kind != "depthwise":
        steps = np.abs(columns / factors[:, None]).max((0, 1)) / WEIGHT_MAX
        # Of a weight's error times its input, bias correction takes back the mean.
        noise += (steps**2).sum() / 12 * columns.shape[0] * (seen.variance * factors**2).sum()
    return float(noise / max((squares * seen.power).sum(), np.finfo(np.float64).tiny))


def _rounding_noise(state: Calibrated, group: ChannelGroup, name: str, factors: Doubles) -> Doubles:
    """Power of the rounding error in each channel: the tensor's own, and what the group's tensors before it hand on."""
    low, high = state.useful(name)
    step = ((factors * high).max() - (factors * low).min()) / LEVELS
    noise = np.full(group.channels, step**2 / 12)
    writer = state.writers.get(name)
    if writer is None or writer.kind in WEIGHTED:
        return noise
    for at, source in enumerate(writer.inputs):
        if source not in group.tensors:
            continue
        before = _rounding_noise(state, group, source, factors)
        if writer.kind == "global_average_pool":  # errors of many places cancel
            _, height, width, _ = state.graph.shapes[source]
            before = before / (height * width)
        elif writer.kind == "multiply":
            before = before * state.ranges[writer.inputs[1 - at]].power
        noise = noise + before
    return noise
