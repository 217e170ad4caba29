"""Calibration: which values every channel of every tensor takes on real images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.export.graph import Doubles, Floats, Graph, Op
from mbn_deploy.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Per channel: smallest and largest value seen, and the mean square (the power of the signal)."""

    low: Doubles
    high: Doubles
    power: Doubles

    def scaled(self, factors: Doubles) -> ChannelRange:
        """The range after multiplying each channel by its factor (above 0)."""
        return ChannelRange(self.low * factors, self.high * factors, self.power * factors**2)


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
        return np.minimum(low, 0.0), np.maximum(seen.high, 0.0)

    def rescaled(self, graph: Graph, names: Iterable[str], factors: Doubles) -> Calibrated:
        """After `channels.rescale`: ranges and floors of `names` follow their factors exactly."""
        touched = set(names)
        return replace(
            self,
            graph=graph,
            ranges={n: r.scaled(factors) if n in touched else r for n, r in self.ranges.items()},
            floors={n: f * factors if n in touched else f for n, f in self.floors.items()},
        )


def observe(
    graph: Graph, batches: Iterable[Floats], total: int, progress: Progress = silent
) -> dict[str, ChannelRange]:
    """Ranges of every tensor over `batches`, arrays of the graph's input shape (N, H, W, C), float32.

    The graph runs in ONNX Runtime, which keeps every tensor that is asked for.
    """
    names = [op.output for op in graph.ops]
    session = _session(graph, names)
    sums = {name: _Sum(graph.shapes[name][-1]) for name in names}
    for done, batch in enumerate(batches, 1):
        source = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        for name, value in zip(names, session.run(names, {graph.input: source}), strict=True):
            sums[name].add(value.reshape(value.shape[0], value.shape[1], -1))
        progress("calibrate", done, total)
    return {name: found.range() for name, found in sums.items()}


class _Sum:
    """Running minimum, maximum and sum of squares a channel."""

    def __init__(self, channels: int) -> None:
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.squares, self.count = np.zeros(channels), 0

    def add(self, values: Floats) -> None:
        """`values` is (N, C, positions)."""
        np.minimum(self.low, values.min((0, 2)), out=self.low)
        np.maximum(self.high, values.max((0, 2)), out=self.high)
        self.squares += np.einsum("ncp,ncp->c", values, values)
        self.count += values.shape[0] * values.shape[2]

    def range(self) -> ChannelRange:
        return ChannelRange(self.low, self.high, self.squares / max(self.count, 1))


def _session(graph: Graph, outputs: list[str]) -> Any:
    from mbn_deploy.export.onnx_writer import write_onnx

    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "export", "to calibrate") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin between the short ops cost several times the work itself where other programs run too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = write_onnx(graph, metadata={}, extra_outputs=outputs)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
