"""Models whose input is RGB and normalized by one mean and one standard deviation.

TFLite metadata, MediaPipe Tasks and most apps support nothing else. Any other normalization becomes a part of the
model's first layers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import Graph, Op, input_readers
from mbn_deploy.manifest import Preprocess


def red_first(graph: Graph, preprocess: Preprocess) -> tuple[Graph, Preprocess]:
    """Return the graph and the preprocessing for RGB input: a BGR model gets its first kernels reversed."""
    if preprocess.channels == "rgb":
        return graph, preprocess
    readers = input_readers(graph)
    rgb = replace(preprocess, mean=preprocess.mean[::-1], std=preprocess.std[::-1], channels="rgb")
    if any(op.kind != "conv" for op in readers):
        return behind_conv(graph, np.eye(len(preprocess.mean))[::-1], np.zeros(len(preprocess.mean)), "turned"), rgb
    kernels = {op.name: np.ascontiguousarray(op.weights()[0][:, :, ::-1]) for op in readers}
    ops = (replace(op, kernel=kernels[op.name], groups=1) if op.name in kernels else op for op in graph.ops)
    return graph.with_ops(ops), rgb


def is_uniform(preprocess: Preprocess) -> bool:
    """Tell whether all channels have the same mean and deviation."""
    return len(set(preprocess.mean)) == len(set(preprocess.std)) == 1


def uniform_input(graph: Graph, preprocess: Preprocess) -> tuple[Graph, Preprocess]:
    """Return `graph` with uniform preprocessing: unchanged, or behind a 1x1 convolution that normalizes pixels.

    The normalization is not merged into the first layer, whose zero padding stands for the mean, as in training.
    """
    if is_uniform(preprocess):
        return graph, preprocess
    mean, std = np.asarray(preprocess.mean), np.asarray(preprocess.std)
    pixels = replace(preprocess, mean=(0.0,) * len(mean), std=(1.0,) * len(std))
    return behind_conv(graph, np.diag(1 / std), -mean / std, "normalized"), pixels


def behind_conv(graph: Graph, matrix: Doubles, shift: Doubles, name: str) -> Graph:
    """Return the graph behind a 1x1 convolution of its input, x = pixel @ matrix + shift."""
    output = f"{graph.input}/{name}"
    layer = Op(
        kind="conv",
        name=output,
        inputs=(graph.input,),
        output=output,
        kernel=matrix[None, None].astype(np.float32),
        bias=shift.astype(np.float32),
    )
    readers = (replace(op, inputs=tuple(output if t == graph.input else t for t in op.inputs)) for op in graph.ops)
    return replace(graph, ops=(layer, *readers), shapes={**graph.shapes, output: graph.shapes[graph.input]})
