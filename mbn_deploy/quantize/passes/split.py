"""Feature vectors with more than 8 bits: a channel is written as a sum of parts, each with 256 levels of its own.

z in [0, h] is the sum over i < k of clip(z - i h/k, 0, h/k). The convolution that makes z writes the
parts as channels of their own, its integers saturate where a part ends, and what reads z reads them
with the same weights: the function stays, the step is k times finer. Worth it where a convolution is
small and much depends on it: the reduced vector of squeeze-and-excitation, whose error becomes one
factor for a whole channel. (Outlier channel splitting, arXiv 1901.09504, halves channels instead;
halves of a ReLU share their rounding, parts do not.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import LEVELS
from mbn_deploy.quantize.ranges import Calibrated, ChannelRange

MAX_PARTS = 8
MAX_CHANNELS = 4096


def split_vectors(state: Calibrated, keep: frozenset[str] = frozenset()) -> Calibrated:
    """Split every vector whose rounding error would exceed that of the gate which it decides on.

    Those in `keep` compute in float and stay whole.
    """
    for op in state.graph.ops:
        readers = state.graph.readers()[op.output]
        if op.output not in keep and _splits(state, op, readers):
            high = float(state.useful(op.output)[1].max())
            parts = _parts(state, op, readers, high / LEVELS)
            if parts > 1:
                state = _split(state, op, readers, high / parts)
    return state


def _splits(state: Calibrated, op: Op, readers: list[Op]) -> bool:
    """A ReLU'd vector of one value a channel that convolutions turn into gates."""
    shape = state.graph.shapes[op.output]
    vector = len(shape) == 4 and shape[1:3] == (1, 1) and op.kind == "conv" and op.activation == "relu"
    gates = bool(readers) and all(r.kind == "conv" and r.activation == "unit" for r in readers)
    return vector and gates and bool(state.useful(op.output)[1].max() > 0)


def _parts(state: Calibrated, op: Op, readers: list[Op], step: float) -> int:
    """Enough parts that the error they leave in a gate is at most half of the gate's own rounding, in the mean square.

    Both are uniform over a step: s^2/12 times the squared weights against (1/255)^2/12.
    """
    error = max(float(np.sqrt(np.mean((r.weights()[0].astype(np.float64) ** 2).sum((0, 1, 2))))) for r in readers)
    wanted = int(np.ceil(2 * error * step * LEVELS))
    most = MAX_CHANNELS // state.graph.shapes[op.output][-1]
    return max(1, min(wanted, MAX_PARTS, most))


def _split(state: Calibrated, op: Op, readers: list[Op], width: float) -> Calibrated:
    """Parts of `width` as channels clipped to [0, 1]; a channel gets as many as it reaches into."""
    high = state.useful(op.output)[1]
    counts = np.maximum(np.ceil(high / width - 1e-9), 1).astype(int)
    channel = np.repeat(np.arange(high.size), counts)
    part = np.concatenate([np.arange(n) for n in counts])
    kernel, bias = op.weights()
    made = replace(
        op,
        kernel=(kernel[..., channel] / width).astype(np.float32),
        bias=(bias[channel] / width - part).astype(np.float32),
        activation="unit",
    )
    changed: dict[str, Op] = {op.output: made}
    for reader in readers:
        wide = reader.weights()[0][:, :, channel] * np.float32(width)
        changed[reader.output] = replace(reader, kernel=wide)
    graph = state.graph.with_ops(changed.get(o.output, o) for o in state.graph.ops)
    shapes = {**graph.shapes, op.output: (*graph.shapes[op.output][:-1], channel.size)}
    reached: Doubles = np.clip(high[channel] / width - part, 0.0, 1.0)
    seen = ChannelRange(np.zeros(channel.size), reached, reached / 2, reached**2 / 3)
    return replace(state, graph=replace(graph, shapes=shapes), ranges={**state.ranges, op.output: seen})
