"""Rewrite a float graph for integers at no cost: hard sigmoids go into convolutions, and the input becomes pixels.

The float function stays the same; only the tensors that get quantized change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.fold import rescaling_ops
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op, input_readers
from mbn_deploy.graph.input_normalization import behind_conv
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.manifest import Preprocess


def absorb_hard_sigmoids(graph: Graph, keep: frozenset[str] = frozenset()) -> Graph:
    """Compute hard_sigmoid(conv(x)) = clip(conv(x) / 6 + 1/2, 0, 1) by the convolution alone.

    Its kernel and bias are divided by 6, and 1/2 is added to the bias. The clip to [0, 1] is the activation `unit`,
    which costs nothing in integers: 256 levels that cover [0, 1] saturate there. A hard sigmoid whose output is in
    `keep` computes in float and stays.
    One that does not follow a convolution that only it reads gets a depthwise 1x1 convolution of its own.
    """
    readers, writers = graph.readers(), graph.writers()
    absorbed: dict[str, Op] = {}  # by the name of the convolution
    gone: set[str] = set()
    for op in graph.ops:
        source = writers.get(op.inputs[0])
        if op.kind != "hard_sigmoid" or op.output in keep:
            continue
        if source is None or not _is_plain(source) or len(readers[source.output]) != 1:
            continue
        kernel, bias = source.weights()
        sixth = np.float32(1 / 6)
        absorbed[source.output] = replace(
            source, kernel=kernel * sixth, bias=bias * sixth + np.float32(0.5), output=op.output, activation="unit"
        )
        gone.add(op.output)
    shapes, ops = dict(graph.shapes), list[Op]()
    for op in graph.ops:
        if op.kind == "hard_sigmoid" and op.output not in gone | keep:
            channels = shapes[op.output][-1]
            ops += rescaling_ops(op, np.full(channels, 1 / 6), np.full(channels, 0.5), shapes, activation="unit")
        elif op.output not in gone:
            ops.append(absorbed.get(op.output, op))
    return replace(graph, shapes=shapes).with_ops(ops)


def _is_plain(op: Op) -> bool:
    return op.kind in WEIGHTED and op.activation == "none"


@dataclass(frozen=True, eq=False)
class PixelInput:
    """A graph whose quantized input are the pixels themselves.

    real input = params.scale * (pixel - 128 - params.zero_point); `preprocess` is the same as mean and std.
    """

    graph: Graph
    params: QuantParams
    preprocess: Preprocess


def pixel_input(graph: Graph, preprocess: Preprocess) -> PixelInput:
    """Fold the normalization of the input into the first layers, so that pixels need no arithmetic.

    With one scale s and one integer zero point z for all channels, x_c = (p - m_c) / d_c becomes a * (p - z) * s + b
    with a = 1 / (s d_c) and b = (z - m_c) / d_c; a goes into the input channels of the kernel, b into the bias. Zero
    padding then stands for the pixel z instead of m_c, which is the same if m_c is an integer and half a pixel level
    off at the border if it is 127.5. The input may be cropped or resized first, which does the same to all channels.
    Where anything else than a convolution or dense layer reads it, a 1x1 convolution is put in front.
    """
    if any(op.kind not in WEIGHTED for op in input_readers(graph)):
        channels = graph.shapes[graph.input][-1]
        graph = behind_conv(graph, np.eye(channels), np.zeros(channels), "pixels")
    readers = input_readers(graph)
    mean, std = np.asarray(preprocess.mean), np.asarray(preprocess.std)
    scale = float(np.float32(1 / np.mean(std)))
    zero = int(np.clip(np.floor(np.mean(mean) + 0.5), 0, 255))
    gain, shift = 1 / (scale * std), (zero - mean) / std
    changed = {op.name: _refer(op, gain, shift) for op in readers}
    return PixelInput(
        graph.with_ops(changed.get(op.name, op) for op in graph.ops),
        QuantParams(scale, zero - 128),
        replace(preprocess, mean=(float(zero),) * len(mean), std=(1 / scale,) * len(std)),
    )


def _refer(op: Op, gain: Doubles, shift: Doubles) -> Op:
    """Return the op for an input x' with x = gain * x' + shift per channel."""
    kernel, bias = op.weights()
    doubles = kernel.astype(np.float64)
    if op.kind == "depthwise":
        return replace(
            op,
            kernel=(doubles * gain[:, None]).astype(np.float32),
            bias=(bias + (doubles.sum((0, 1)) * shift[:, None]).reshape(-1)).astype(np.float32),
        )
    spatial = tuple(range(doubles.ndim - 2))
    moved = shift @ doubles.sum(spatial)
    return replace(op, kernel=(doubles * gain[:, None]).astype(np.float32), bias=(bias + moved).astype(np.float32))
