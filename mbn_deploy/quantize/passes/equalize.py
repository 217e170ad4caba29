"""Cross-layer equalization: channels that share a tensor get to share a range.

One scale serves all channels of an activation, so a channel whose values stay small keeps only few
of the 256 levels. Scaling it up costs nothing where the weights behind it can be scaled down
(`channels`); per-channel weights absorb it fully in a depthwise layer and partly in a pointwise
one, whose weights share a scale over input channels. The factors are chosen by the noise that
follows from them, not by a fixed rule (arXiv 1906.04721 equates weight ranges; here weights are
per-channel, and activations matter).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Op
from mbn_deploy.graph.quantized import LEVELS, WEIGHT_MAX
from mbn_deploy.quantize.channel_groups import ChannelGroup, channel_groups, rescale
from mbn_deploy.quantize.integers import Granularity
from mbn_deploy.quantize.ranges import Calibrated

MAX_FACTOR = 64.0  # between the median channel and any other
FLOOR = 1e-3  # of the largest: what lies below is noise and gets no factor of its own
_TINY = np.finfo(np.float64).tiny
# Exponents tried: towards even activations, towards the weights that read, towards the weights that write.
# With one scale for all output channels the convolution that writes a channel cares too, and the groups'
# choices depend on each other through it: several sweeps, each with fewer candidates.
_EXPONENTS = {
    "per-channel": (np.linspace(0.0, 1.0, 11), np.linspace(0.0, 1.0, 5), np.zeros(1)),
    "per-tensor": (np.linspace(0.0, 1.0, 6), np.linspace(0.0, 1.0, 3), np.linspace(0.0, 1.0, 6)),
}
_SWEEPS = {"per-channel": 1, "per-tensor": 4}


def equalize(state: Calibrated, granularity: Granularity = "per-channel", levels: int = LEVELS) -> Calibrated:
    """Choose factors for every group of `state`; the float function stays the same.

    They are for weights of this granularity, and activations with so many `levels` from end to end.
    """
    for _ in range(_SWEEPS[granularity]):
        for group in channel_groups(state.graph):
            factors = _best_factors(state, group, granularity, levels)
            if factors is not None:
                state = state.rescaled(rescale(state.graph, group, factors), group.tensors, factors)
    return state


def _best_factors(state: Calibrated, group: ChannelGroup, granularity: Granularity, levels: int) -> Doubles | None:
    readers = [op for op in state.graph.ops if op.kind in WEIGHTED and op.inputs[0] in group.tensors]
    span_choices = _span_choices(state, group, {op.inputs[0] for op in readers})
    if not readers or not span_choices:
        return None
    weights = _weight_spans(readers, group.channels, granularity)
    written = _written_spans(state, group)
    choices = product(span_choices, *_EXPONENTS[granularity])
    tried = [_candidate(spans**-a * weights ** (w * (1 - a)), written, v) for spans, a, w, v in choices]
    noise = _Noise.of(state, group, readers, granularity, levels)
    return min(tried, key=noise.relative)


def _candidate(balance: Doubles, written: Doubles, to_writers: float) -> Doubles:
    """Factors between what activations and readers want (`balance`) and what evens out the weights that write."""
    factors = balance ** (1 - to_writers) * written**-to_writers
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


def _weight_spans(readers: list[Op], channels: int, granularity: Granularity) -> Doubles:
    """Largest weight that reads each channel, relative; per-channel depthwise weights do not care."""
    spans = np.zeros(channels)
    for op in readers:
        if op.kind != "depthwise" or granularity == "per-tensor":
            largest = np.abs(_columns(op, channels)).max((0, 2))
            spans = np.maximum(spans, largest / max(largest.max(), _TINY))
    return np.maximum(spans, FLOOR) if spans.any() else np.ones(channels)


def _written_spans(state: Calibrated, group: ChannelGroup) -> Doubles:
    """Largest weight that writes each channel, relative, over the convolutions that write into the group."""
    spans = np.zeros(group.channels)
    for op in state.graph.ops:
        if op.kind in WEIGHTED and op.output in group.tensors:
            largest = _written(op)
            spans = np.maximum(spans, largest / max(largest.max(), _TINY))
    return np.maximum(spans, FLOOR) if spans.any() else np.ones(group.channels)


def _written(op: Op) -> Doubles:
    """Largest weight of each output channel."""
    kernel, bias = op.weights()
    largest: Doubles = np.abs(kernel).reshape(-1, bias.size).max(0).astype(np.float64)
    return largest


@dataclass(frozen=True, eq=False)
class _Reader:
    """What the noise in the output of an op depends on, worked out once for all candidates.

    `squares` (C,): squared weights that read each channel. `largest` (C, outputs): the largest weight
    between a channel and an output. `taps`: kernel positions.
    """

    op: Op
    squares: Doubles
    largest: Doubles
    taps: int

    @classmethod
    def of(cls, op: Op, channels: int) -> _Reader:
        columns = _columns(op, channels)
        return cls(op, (columns**2).sum((0, 2)), np.abs(columns).max(0), columns.shape[0])


@dataclass(frozen=True, eq=False)
class _Noise:
    """What rounding costs in one group of channels."""

    state: Calibrated
    group: ChannelGroup
    granularity: Granularity
    levels: int
    readers: list[_Reader]
    written: dict[str, Doubles]  # by the op's output: the largest weight of each output channel

    @classmethod
    def of(
        cls, state: Calibrated, group: ChannelGroup, readers: list[Op], granularity: Granularity, levels: int
    ) -> _Noise:
        made = [_Reader.of(op, group.channels) for op in readers]
        writers = [op for op in state.graph.ops if op.kind in WEIGHTED and op.output in group.tensors]
        return cls(state, group, granularity, levels, made, {op.output: _written(op) for op in writers})

    def relative(self, factors: Doubles) -> float:
        """Noise power over signal power in the outputs of the readers, for uniform rounding.

        Rounding to a step s adds s^2/12 a value. The activation's step follows from the largest scaled
        range; a weight's step from the largest scaled weight that shares its scale.
        """
        return sum(self._of_reader(reader, factors) for reader in self.readers)

    def _of_reader(self, reader: _Reader, factors: Doubles) -> float:
        seen = self.state.ranges[reader.op.inputs[0]]
        noise = (reader.squares / factors**2 * self._values(reader.op.inputs[0], factors)).sum()
        # Of a weight's error times its input, bias correction takes back the mean.
        inputs = reader.taps * float((seen.variance * factors**2).sum())
        outputs = reader.largest.shape[1]
        if self.granularity == "per-tensor":
            step = float((reader.largest.max(1) / factors).max()) / WEIGHT_MAX
            noise += step**2 / 12 * inputs * outputs
        elif reader.op.kind != "depthwise":  # a scale a channel: no factor changes what depthwise weights round
            steps = (reader.largest / factors[:, None]).max(0) / WEIGHT_MAX
            noise += float((steps**2).sum()) / 12 * inputs
        return float(noise / max(float((reader.squares * seen.power).sum()), _TINY))

    def _values(self, name: str, factors: Doubles) -> Doubles:
        """Power of the error in each channel: the tensor's rounding, and what the group's tensors before it hand on."""
        low, high = self.state.useful(name)
        step = ((factors * high).max() - (factors * low).min()) / self.levels
        noise = np.full(self.group.channels, step**2 / 12)
        writer = self.state.writers.get(name)
        if writer is None:
            return noise
        if writer.kind in WEIGHTED:
            return noise + self._of_writer(writer, factors)
        for at, source in enumerate(writer.inputs):
            if source not in self.group.tensors:
                continue
            before = self._values(source, factors)
            if writer.kind == "global_average_pool":  # errors of many places cancel
                _, height, width, _ = self.state.graph.shapes[source]
                before = before / (height * width)
            elif writer.kind == "multiply":
                before = before * self.state.ranges[writer.inputs[1 - at]].power
            noise = noise + before
        return noise

    def _of_writer(self, op: Op, factors: Doubles) -> Doubles | float:
        """The error that the rounded weights of `op` leave in each channel, where they share one scale."""
        if self.granularity == "per-channel":
            return 0.0
        seen = self.state.ranges.get(op.inputs[0])
        kernel = op.weights()[0]
        step = float((self.written[op.output] * factors).max()) / WEIGHT_MAX
        taps = kernel[..., 0].size if op.kind != "depthwise" else kernel.shape[0] * kernel.shape[1]
        if seen is None:  # the picture: values of about 1
            return step**2 / 12 * taps
        if op.kind == "depthwise":
            return step**2 / 12 * taps * seen.variance
        return step**2 / 12 * taps * float(seen.variance.mean())
