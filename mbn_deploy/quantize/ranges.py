"""Calibration: which values every channel of every tensor takes on real images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import LEVELS
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.channel_groups import channel_groups
from mbn_deploy.runtime.backends.onnx import onnxruntime_module

MARGINS = np.linspace(1.0, 2.0, 21)
SAMPLES = 2000
MIN_FOLD = 4  # images in a half


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Per channel: smallest and largest value seen, mean, and mean square (the power of the signal).

    `drift`: by how much, relatively, the whole tensor reaches further in one half of the images than in the other.
    """

    low: Doubles
    high: Doubles
    mean: Doubles
    power: Doubles
    drift: float = 0.0

    @property
    def variance(self) -> Doubles:
        """Mean square of what is left without the mean."""
        return np.maximum(self.power - self.mean**2, 0.0)

    def within(self, low: float, high: float) -> ChannelRange:
        """The part of the range inside [low, high]."""
        return replace(self, low=np.clip(self.low, low, high), high=np.clip(self.high, low, high))

    def scaled(self, factors: Doubles) -> ChannelRange:
        """The range after multiplying each channel by its factor (above 0)."""
        return ChannelRange(self.low * factors, self.high * factors, self.mean * factors, self.power * factors**2)

    def shifted(self, constants: Doubles) -> ChannelRange:
        """The range after lowering each channel by its constant."""
        power = np.maximum(self.power - 2 * constants * self.mean + constants**2, 0.0)
        low, high, mean = (value - constants for value in (self.low, self.high, self.mean))
        return replace(self, low=low, high=high, mean=mean, power=power)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A float graph with what is known of its tensors; what conditioning steps hand to each other.

    `floors`: per channel, a bound below which a tensor's value makes no difference to the network.
    """

    graph: Graph
    ranges: dict[str, ChannelRange]
    floors: dict[str, Doubles]

    @cached_property
    def writers(self) -> dict[str, Op]:
        """The op that writes each tensor."""
        return self.graph.writers()

    def useful(self, name: str) -> tuple[Doubles, Doubles]:
        """Per channel, the (low, high) that integers must cover; zero is always inside."""
        seen = self.ranges[name]
        low = np.maximum(seen.low, self.floors[name]) if name in self.floors else seen.low
        high = np.minimum(seen.high, self.ceilings[name]) if name in self.ceilings else seen.high
        return np.minimum(low, 0.0), np.maximum(high, 0.0)

    @cached_property
    def ceilings(self) -> dict[str, Doubles]:
        """Per channel, what a minimum behind a tensor lets through."""
        return {op.inputs[0]: op.offset for op in self.graph.ops if op.kind == "minimum" and op.offset is not None}

    def rescaled(self, graph: Graph, names: Iterable[str], factors: Doubles) -> Calibrated:
        """After `channels.rescale`: ranges and floors of `names` follow their factors exactly."""
        touched = set(names)
        return replace(
            self,
            graph=graph,
            ranges={n: r.scaled(factors) if n in touched else r for n, r in self.ranges.items()},
            floors={n: f * factors if n in touched else f for n, f in self.floors.items()},
        )

    def shifted(self, graph: Graph, shifts: Mapping[str, Doubles]) -> Calibrated:
        """After `absorb.shift`: ranges follow the constants exactly. Tensors with floors are none of `shifts`."""
        ranges = {n: r.shifted(shifts[n]) if n in shifts else r for n, r in self.ranges.items()}
        return replace(self, graph=graph, ranges=ranges)


def observe(
    graph: Graph, batches: Iterable[Floats], total: int, progress: Progress = silent
) -> dict[str, ChannelRange]:
    """Ranges of every tensor over `batches`, arrays of the graph's input shape (N, H, W, C), float32.

    The graph runs in ONNX Runtime, which keeps every tensor that is asked for.
    """
    names = [op.output for op in graph.ops]
    session = _session(graph, names)
    # Where channels cannot be equalized the widest one decides, and the others have room enough.
    single = {name for group in channel_groups(graph) for name in group.tensors}
    sums = {name: _Sum(graph.shapes[name][-1], keep_vectors=name in single) for name in names}
    for done, batch in enumerate(batches, 1):
        source = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        for name, value in zip(names, session.run(names, {graph.input: source}), strict=True):
            sums[name].add(value.reshape(value.shape[0], value.shape[1], -1))
        progress("calibrate", done, total)
    return {name: found.range() for name, found in sums.items()}


def sample(graph: Graph, names: list[str], batches: Iterable[Floats]) -> dict[str, Doubles]:
    """Some values of each tensor in `names`, `SAMPLES` an image at most, spread evenly over it."""
    session = _session(graph, names)
    found: dict[str, list[Floats]] = {name: [] for name in names}
    for batch in batches:
        source = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        for name, value in zip(names, session.run(names, {graph.input: source}), strict=True):
            # An odd stride does not fall into step with the rows of an image.
            stride = max(value.size // SAMPLES, 1) | 1
            found[name].append(value.reshape(-1)[::stride].copy())
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}


class _Sum:
    """Running minimum, maximum, sum and sum of squares a channel; of vectors all values, for their margin."""

    def __init__(self, channels: int, *, keep_vectors: bool) -> None:
        self.keep_vectors = keep_vectors
        self.vectors: list[Floats] = []
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.halves = ([0.0, 0.0], [0.0, 0.0])  # (low, high) of the whole tensor, zero included
        self.batches = 0
        self.sum, self.squares, self.count = np.zeros(channels), np.zeros(channels), 0

    def add(self, values: Floats) -> None:
        """`values` is (N, C, positions)."""
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
        count = max(self.count, 1)
        mean = self.sum / count
        margin = vector_margin(np.concatenate(self.vectors).astype(np.float64)) if self.vectors else 1.0
        low, high = mean + margin * (self.low - mean), mean + margin * (self.high - mean)
        # Zero is a bound that an activation set, not a chance of these images.
        low, high = np.where(self.low >= 0, self.low, low), np.where(self.high <= 0, self.high, high)
        return ChannelRange(low, high, mean, self.squares / count, self.drift())

    def drift(self) -> float:
        """See `ChannelRange`."""
        spans = sorted(high - low for low, high in self.halves)
        return spans[1] / spans[0] - 1 if self.batches > 1 and spans[0] > 0 else 0.0


def vector_margin(values: Doubles) -> float:
    """How much further than seen a vector's channels should reach, for `values` of shape (images, channels).

    A channel that has one value an image is known by few: each new image passes the largest of n with
    a chance of 1/(n + 1), in some of hundreds of channels always. Wider ranges clip less and round more;
    the margin is the one for which half of the images predict the other half with the least error,
    both relative to a channel's span, rounding as the square of the step over 12.
    """
    halves = (values[::2], values[1::2])
    if min(len(half) for half in halves) < MIN_FOLD:
        return 1.0
    errors = [sum(_held_out_error(*order, margin) for order in (halves, halves[::-1])) for margin in MARGINS]
    return float(MARGINS[int(np.argmin(errors))])


def _held_out_error(seen: Doubles, unseen: Doubles, margin: float) -> float:
    mean, low, high = seen.mean(0), seen.min(0), seen.max(0)
    span = high - low
    live = span > 0
    above = unseen - (mean + margin * (high - mean))
    below = (mean + margin * (low - mean)) - unseen
    clipped = np.maximum(np.maximum(above, below), 0.0)[:, live] / span[live]
    return float((clipped**2).mean() + (margin / LEVELS) ** 2 / 12) if live.any() else 0.0


def _session(graph: Graph, outputs: list[str]) -> Any:
    from mbn_deploy.export.onnx.writer import write_onnx

    onnxruntime = onnxruntime_module("export", "to calibrate")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin between the short ops cost several times the work itself where other programs run too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = write_onnx(graph, metadata={}, extra_outputs=outputs)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
