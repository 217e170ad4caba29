"""Observe which values every channel of every tensor takes on calibration images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import INT8_STEPS
from mbn_deploy.graph.rescaling import IDENTITY, Rescaling
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.channel_groups import channel_groups
from mbn_deploy.runtime.backends.modules import load_interpreter

MARGINS = np.linspace(1.0, 2.0, 21)
SAMPLES = 2000  # values of a tensor and image
MIN_FOLD = 4  # images in each half of a cross-validation


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Per channel of a tensor: smallest and largest value seen, mean, and mean square (the power of the signal).

    `drift` is by how much the whole tensor's span on one half of the images exceeds that on the other, relatively.
    """

    low: Doubles
    high: Doubles
    mean: Doubles
    power: Doubles
    drift: float = 0.0

    @property
    def variance(self) -> Doubles:
        """The variance of each channel."""
        return np.maximum(self.power - self.mean**2, 0.0)

    def within(self, low: float, high: float) -> ChannelRange:
        """Return the range clipped to [low, high]."""
        return replace(self, low=np.clip(self.low, low, high), high=np.clip(self.high, low, high))

    def scaled(self, factors: Doubles) -> ChannelRange:
        """Return the range after multiplying each channel by its factor (above 0)."""
        return ChannelRange(
            low=self.low * factors, high=self.high * factors, mean=self.mean * factors, power=self.power * factors**2
        )

    def shifted(self, constants: Doubles) -> ChannelRange:
        """Return the range after lowering each channel by its constant."""
        power = np.maximum(self.power - 2 * constants * self.mean + constants**2, 0.0)
        low, high, mean = (value - constants for value in (self.low, self.high, self.mean))
        return replace(self, low=low, high=high, mean=mean, power=power)


@dataclass(frozen=True, eq=False)
class CalibratedGraph:
    """A float graph with the ranges of its tensors, which the passes before quantization rewrite.

    `floors` has, per channel, a bound below which a tensor's values make no difference to the network. `rescalings`
    has the tensors that the passes have multiplied or shifted so far.
    """

    graph: Graph
    ranges: dict[str, ChannelRange]
    floors: dict[str, Doubles]
    rescalings: dict[str, Rescaling] = field(default_factory=dict)

    @cached_property
    def writers(self) -> dict[str, Op]:
        """The op that writes each tensor."""
        return self.graph.writers()

    def useful(self, name: str) -> tuple[Doubles, Doubles]:
        """Return the (low, high) of each channel that integers must cover; zero is always inside."""
        seen = self.ranges[name]
        low = np.maximum(seen.low, self.floors[name]) if name in self.floors else seen.low
        high = np.minimum(seen.high, self.ceilings[name]) if name in self.ceilings else seen.high
        return np.minimum(low, 0.0), np.maximum(high, 0.0)

    @cached_property
    def ceilings(self) -> dict[str, Doubles]:
        """Per tensor that a minimum reads, the bound of each channel."""
        return {op.inputs[0]: op.offset for op in self.graph.ops if op.kind == "bound" and op.offset is not None}

    def rescaled(self, graph: Graph, names: Iterable[str], factors: Doubles) -> CalibratedGraph:
        """Return `graph`, in which the tensors `names` are multiplied by `factors`, with their ranges and floors."""
        touched = set(names)
        return replace(
            self,
            graph=graph,
            ranges={n: r.scaled(factors) if n in touched else r for n, r in self.ranges.items()},
            floors={n: f * factors if n in touched else f for n, f in self.floors.items()},
            rescalings=self.rescalings | {n: self.rescalings.get(n, IDENTITY).scaled(factors) for n in touched},
        )

    def shifted(self, graph: Graph, shifts: Mapping[str, Doubles]) -> CalibratedGraph:
        """Return `graph`, in which the tensors in `shifts` are lowered, with their ranges. None of them has floors."""
        ranges = {n: r.shifted(shifts[n]) if n in shifts else r for n, r in self.ranges.items()}
        rescalings = {n: self.rescalings.get(n, IDENTITY).lowered(constants) for n, constants in shifts.items()}
        return replace(self, graph=graph, ranges=ranges, rescalings=self.rescalings | rescalings)


def observe(
    graph: Graph, batches: Iterable[Floats], total: int, progress: Progress = silent
) -> dict[str, ChannelRange]:
    """Return the ranges of every tensor over `batches`, float32 arrays of the graph's input shape (N, H, W, C).

    The graph runs in ONNX Runtime, with every tensor as an output. `total` is the number of batches, for `progress`.
    """
    names = [op.output for op in graph.ops]
    session = _session(graph, names)
    # Vectors whose channels cannot be equalized need no margin: the widest channel decides, the others have room.
    rescalable = {name for group in channel_groups(graph) for name in group.tensors}
    totals = {name: RangeAccumulator(graph.shapes[name][-1], keep_vectors=name in rescalable) for name in names}
    for done, batch in enumerate(batches, 1):
        source = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        for name, value in zip(names, session.run(names, {graph.input: source}), strict=True):
            channels_first = value if value.ndim in (2, 4) else np.moveaxis(value, -1, 1)
            totals[name].add(channels_first.reshape(value.shape[0], channels_first.shape[1], -1))
        progress("calibrate", done, total)
    return {name: accumulator.range() for name, accumulator in totals.items()}


def sample(graph: Graph, names: list[str], batches: Iterable[Floats]) -> dict[str, Doubles]:
    """Return about `SAMPLES` values an image of each tensor in `names`, spread evenly over the tensor."""
    session = _session(graph, names)
    samples: dict[str, list[Floats]] = {name: [] for name in names}
    for batch in batches:
        source = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        for name, value in zip(names, session.run(names, {graph.input: source}), strict=True):
            # An odd stride does not fall into step with the rows of an image.
            stride = max(value.size // SAMPLES, 1) | 1
            samples[name].append(value.reshape(-1)[::stride].copy())
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in samples.items()}


class RangeAccumulator:
    """Running minimum, maximum, sum and sum of squares of each channel, from which a `ChannelRange` follows.

    With `keep_vectors`, all values of a tensor with one value a channel and image are kept, for its margin.
    """

    def __init__(self, channels: int, *, keep_vectors: bool) -> None:
        self.keep_vectors = keep_vectors
        self.vectors: list[Floats] = []
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.halves = ([0.0, 0.0], [0.0, 0.0])  # (low, high) of the whole tensor, zero included
        self.batches = 0
        self.sum, self.squares, self.count = np.zeros(channels), np.zeros(channels), 0

    def add(self, values: Floats) -> None:
        """Take `values` (N, C, positions) of the next batch into account."""
        if self.keep_vectors and values.shape[2] == 1:
            self.vectors.append(values[:, :, 0].copy())
        low, high = values.min((0, 2)), values.max((0, 2))
        half = self.halves[self.batches % 2]
        half[:] = min(half[0], float(low.min())), max(half[1], float(high.max()))
        self.batches += 1
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)
        self.sum += values.sum((0, 2), dtype=np.float64)
        self.squares += np.einsum("ncp,ncp->c", values, values)
        self.count += values.shape[0] * values.shape[2]

    def range(self) -> ChannelRange:
        """Return the range over all batches, widened by the margin of vectors."""
        count = max(self.count, 1)
        mean = self.sum / count
        margin = vector_margin(np.concatenate(self.vectors).astype(np.float64)) if self.vectors else 1.0
        low, high = mean + margin * (self.low - mean), mean + margin * (self.high - mean)
        # A bound at zero was set by an activation, not by the choice of images: it gets no margin.
        low, high = np.where(self.low >= 0, self.low, low), np.where(self.high <= 0, self.high, high)
        return ChannelRange(low=low, high=high, mean=mean, power=self.squares / count, drift=self._drift())

    def _drift(self) -> float:
        spans = sorted(high - low for low, high in self.halves)
        return spans[1] / spans[0] - 1 if self.batches > 1 and spans[0] > 0 else 0.0


def vector_margin(values: Doubles) -> float:
    """Return by which factor to widen the ranges of a vector's channels, given `values` (images, channels).

    A channel with one value an image has few values: each new image exceeds the largest of n with a probability of
    1/(n + 1), so in some of hundreds of channels nearly always. Wider ranges clip less and round more coarsely. The
    margin is the one with which half of the images predict the other half with the least error, where clipping and
    rounding (the square of the step over 12) are relative to a channel's span.
    """
    halves = (values[::2], values[1::2])
    if min(len(half) for half in halves) < MIN_FOLD:
        return 1.0
    errors = [sum(held_out_error(*order, margin) for order in (halves, halves[::-1])) for margin in MARGINS]
    return float(MARGINS[int(np.argmin(errors))])


def held_out_error(seen: Doubles, unseen: Doubles, margin: float) -> float:
    """Return the mean squared error on `unseen` vectors with ranges of `seen` ones (images, channels) and a margin."""
    mean, low, high = seen.mean(0), seen.min(0), seen.max(0)
    span = high - low
    live = span > 0
    above = unseen - (mean + margin * (high - mean))
    below = (mean + margin * (low - mean)) - unseen
    clipped = np.maximum(np.maximum(above, below), 0.0)[:, live] / span[live]
    return float((clipped**2).mean() + (margin / INT8_STEPS) ** 2 / 12) if live.any() else 0.0


def _session(graph: Graph, outputs: list[str]) -> Any:
    from mbn_deploy.export.onnx.writer import write_onnx

    onnxruntime = load_interpreter("onnx", extra="export", purpose="to calibrate")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Between the short ops spinning threads take several times the work itself if other programs run, too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = write_onnx(graph, metadata={}, extra_outputs=outputs)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
