"""Split the channels of feature vectors into parts with 256 levels each, which gives them more than 8 bits.

z in [0, h] is the sum over i < k of clip(z - i h/k, 0, h/k). The convolution that computes z writes the parts as
channels of their own, whose integers saturate where a part ends, and the ops that read z read all parts with the same
weights: the function stays the same, with a step that is k times finer. This pays where a convolution is small and
much depends on it: for the reduced vector of squeeze-and-excitation, whose error becomes one factor for a whole
channel. (Outlier channel splitting, arXiv 1901.09504, halves channels instead. Halves of a ReLU are rounded alike;
parts are not.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import INT8_STEPS
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange

MAX_PARTS = 8
MAX_CHANNELS = 4096


def split_vectors(state: CalibratedGraph, keep: frozenset[str] = frozenset()) -> CalibratedGraph:
    """Split every vector whose rounding error would be larger than that of the gates computed from it.

    Tensors in `keep` do not get 8 bits and stay whole.
    """
    for op in state.graph.ops:
        readers = state.graph.readers()[op.output]
        if op.output not in keep and _is_vector_of_gates(state, op, readers):
            high = float(state.useful(op.output)[1].max())
            parts = part_count(state, op, readers, high / INT8_STEPS)
            if parts > 1:
                state = _split(state, op, readers, high / parts)
    return state


def _is_vector_of_gates(state: CalibratedGraph, op: Op, readers: list[Op]) -> bool:
    """Return whether `op` writes a vector behind a ReLU from which all its readers compute gates in [0, 1]."""
    shape = state.graph.shapes[op.output]
    vector = len(shape) == 4 and shape[1:3] == (1, 1) and op.kind == "conv" and op.activation == "relu"
    gates = bool(readers) and all(r.kind == "conv" and r.activation == "unit" for r in readers)
    return vector and gates and bool(state.useful(op.output)[1].max() > 0)


def part_count(state: CalibratedGraph, op: Op, readers: list[Op], step: float) -> int:
    """Return into how many parts to split the channels that `op` writes, whose unsplit quantization step is `step`.

    The root mean square error that they leave in a gate is then at most half of the gate's own rounding error. Both
    are uniform over a step: s^2/12 times the squared weights, and (1/255)^2/12.
    """
    error = max(float(np.sqrt(np.mean((r.weights()[0].astype(np.float64) ** 2).sum((0, 1, 2))))) for r in readers)
    wanted = int(np.ceil(2 * error * step * INT8_STEPS))
    most = MAX_CHANNELS // state.graph.shapes[op.output][-1]
    return max(1, min(wanted, MAX_PARTS, most))


def _split(state: CalibratedGraph, op: Op, readers: list[Op], width: float) -> CalibratedGraph:
    """Write parts of `width` as channels clipped to [0, 1]; a channel gets as many as its range reaches into."""
    high = state.useful(op.output)[1]
    counts = np.maximum(np.ceil(high / width - 1e-9), 1).astype(int)
    channel = np.repeat(np.arange(high.size), counts)
    part = np.concatenate([np.arange(n) for n in counts])
    kernel, bias = op.weights()
    parts = replace(
        op,
        kernel=(kernel[..., channel] / width).astype(np.float32),
        bias=(bias[channel] / width - part).astype(np.float32),
        activation="unit",
    )
    changed: dict[str, Op] = {op.output: parts}
    for reader in readers:
        changed[reader.output] = replace(reader, kernel=reader.weights()[0][:, :, channel] * np.float32(width))
    graph = state.graph.with_ops(changed.get(o.output, o) for o in state.graph.ops)
    shapes = {**graph.shapes, op.output: (*graph.shapes[op.output][:-1], channel.size)}
    reached: Doubles = np.clip(high[channel] / width - part, 0.0, 1.0)
    seen = ChannelRange(low=np.zeros(channel.size), high=reached, mean=reached / 2, power=reached**2 / 3)
    return replace(state, graph=replace(graph, shapes=shapes), ranges={**state.ranges, op.output: seen})
