"""Inputs that one mean and one deviation describe, red first.

Pictures, metadata of TFLite, MediaPipe Tasks and most apps know nothing else. What a model wants
beyond that goes into its first layers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.manifest import Preprocess


def red_first(graph: Graph, preprocess: Preprocess) -> tuple[Graph, Preprocess]:
    """The graph for channels as pictures have them: kernels turn round, not pixels."""
    if preprocess.channels == "rgb":
        return graph, preprocess
    readers = graph.readers()[graph.input]
    turned = replace(preprocess, mean=preprocess.mean[::-1], std=preprocess.std[::-1], channels="rgb")
    if any(op.kind != "conv" for op in readers):
        return _behind(graph, np.eye(len(preprocess.mean))[::-1], np.zeros(len(preprocess.mean)), "turned"), turned
    kernels = {op.name: np.ascontiguousarray(op.weights()[0][:, :, ::-1]) for op in readers}
    ops = (replace(op, kernel=kernels[op.name]) if op.name in kernels else op for op in graph.ops)
    return graph.with_ops(ops), turned


def is_uniform(preprocess: Preprocess) -> bool:
    """Whether one mean and one deviation serve all channels."""
    return len(set(preprocess.mean)) == len(set(preprocess.std)) == 1


def uniform_input(graph: Graph, preprocess: Preprocess) -> tuple[Graph, Preprocess]:
    """`graph` with `is_uniform` preprocessing: unchanged, or behind a 1x1 convolution that takes pixels.

    In front of the first layer and not in its weights, so that zero padding still means what it
    meant in training: the mean.
    """
    if is_uniform(preprocess):
        return graph, preprocess
    mean, std = np.asarray(preprocess.mean), np.asarray(preprocess.std)
    taken = replace(preprocess, mean=(0.0,) * len(mean), std=(1.0,) * len(std))
    return _behind(graph, np.diag(1 / std), -mean / std, "normalized"), taken


def _behind(graph: Graph, matrix: Doubles, shift: Doubles, name: str) -> Graph:
    """The graph behind a 1x1 convolution on its input, x = pixel @ matrix + shift."""
    made = f"{graph.input}/{name}"
    layer = Op(
        "conv", made, (graph.input,), made,
        kernel=matrix[None, None].astype(np.float32), bias=shift.astype(np.float32),
    )  # fmt: skip
    readers = (replace(op, inputs=tuple(made if t == graph.input else t for t in op.inputs)) for op in graph.ops)
    return replace(graph, ops=(layer, *readers), shapes={**graph.shapes, made: graph.shapes[graph.input]})
