"""The float graph: Keras models become one, and every file format is written from it.

The layout is NHWC, kernels are HWIO, all shapes are static and include the batch axis. A `Graph` is a value: each
step (folding, equalizing, ...) returns a new one.

A tensor has the name of the last Keras layer merged into it, so that its value is that layer's output; an op has the
name of the Keras layer that does the work. After folding, the op `Conv1` (convolution + BatchNorm + ReLU6) writes the
tensor `Conv1_relu`.

A new kind of op is a line in `OpKind`, with the fields of `Op` that it uses beside it, and a row in each table that is
keyed by kind: `graph/execute.py`, `export/tflite/lowerings/table.py`, `export/onnx/lowerings/table.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mbn_deploy.arrays import Array, Doubles, Floats

Shape = tuple[int, ...]
OpKind = Literal[
    "conv",  # kernel (kh, kw, cin, cout), bias (cout); stride, pads, dilation, activation, groups (kernel zero between)
    "depthwise",  # kernel (kh, kw, c, multiplier), bias (c * multiplier); as conv
    "dense",  # kernel (cin, cout), bias (cout); activation
    "add",  # two tensors of one rank, as multiply; activation
    "add_constant",  # offset, one number for all or one per channel; activation
    "bound",  # the smaller of x and offset, one number per channel
    "multiply",  # two tensors of one rank; an axis of length 1 is repeated
    "maximum", "minimum",  # two tensors, as multiply
    "concat",  # two or more tensors along `axis`
    "relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "softmax",  # softmax: last axis
    "clip",  # to [low, high], of which one may be infinite
    "leaky_relu",  # scale, one number: the slope below zero
    "prelu",  # scale, (C) or (H, W, C): the slopes below zero
    "elu", "gelu", "gelu_tanh", "tanh", "softplus", "softsign", "mish",  # gelu: with erf, or its approximation by tanh
    "threshold",  # x where x > low, else 0
    "log_softmax",  # last axis
    "global_average_pool", "global_max_pool",  # over H and W; `keepdims`
    "average_pool", "max_pool",  # window, stride, pads (average does not count padding)
    "reshape",  # to the shape of the output tensor, row-major in NHWC
    "pad",  # zeros; pads
    "slice",  # starts, steps: one number per axis behind the batch; the output tensor's shape says how many to take
    "resize",  # H and W to those of the output tensor, with half-pixel centres; interpolation
    "transpose",  # permutation of all axes, the batch stays first
    "channel_max",  # over the last axis, which stays with length 1
    "normalize",  # (x - mean) / sqrt(variance + epsilon) over the last axis: LayerNormalization without its weights
    "l2_normalize",  # x / max(norm of x over the last axis, epsilon)
    "channel_map",  # kernel (1, 1, cin, cout), bias (cout): flips, copies, mean of channels. `fold` removes it
    "affine",  # x * scale + offset per channel of the last axis, in float64: BatchNorm, Rescaling, Normalization
]  # fmt: skip
Activation = Literal["none", "relu", "relu6", "unit"]  # unit: clip to [0, 1]
Interpolation = Literal["bilinear", "nearest"]
Pads = tuple[int, int, int, int]  # top, bottom, left, right

WEIGHTED: frozenset[OpKind] = frozenset({"conv", "depthwise", "dense"})


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. The fields that a kind uses are listed beside it in `OpKind`."""

    kind: OpKind
    name: str
    inputs: tuple[str, ...]
    output: str
    kernel: Floats | None = None
    bias: Floats | None = None
    scale: Doubles | None = None
    offset: Doubles | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    activation: Activation = "none"
    keepdims: bool = False
    axis: int = -1
    low: float = -math.inf
    high: float = math.inf
    groups: int = 1
    starts: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    permutation: tuple[int, ...] = ()
    interpolation: Interpolation = "bilinear"
    epsilon: float = 0.0

    def weights(self) -> tuple[Floats, Floats]:
        """Return (kernel, bias) of a weighted op; after folding it has both."""
        if self.kernel is None or self.bias is None:
            raise ValueError(f"op {self.name!r} ({self.kind}) has no kernel or no bias")
        return self.kernel, self.bias

    def number(self) -> float:
        """Return the number that an `add_constant` of one number adds."""
        if self.offset is None or self.offset.size != 1:
            raise ValueError(f"op {self.name!r} ({self.kind}) does not add a single number")
        return float(self.offset.flat[0])

    def slopes(self) -> Doubles:
        """Return the slopes below zero of a `leaky_relu` or `prelu`."""
        if self.scale is None:
            raise ValueError(f"op {self.name!r} ({self.kind}) has no slopes")
        return self.scale


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in topological order between one input and one output.

    `shapes` has the static NHWC shape of every tensor, including the input.

    Raises:
        ValueError: an op reads a tensor that is not computed before, a tensor is written twice or has no shape, or the
            output is never computed.
    """

    name: str
    input: str
    output: str
    ops: tuple[Op, ...]
    shapes: dict[str, Shape] = field(repr=False)

    def __post_init__(self) -> None:
        known = {self.input}
        for op in self.ops:
            missing = [t for t in op.inputs if t not in known]
            if missing or op.output in known or op.output not in self.shapes:
                raise ValueError(f"graph {self.name!r} is not well-formed at op {op.name!r}: {missing or op.output}")
            known.add(op.output)
        if self.output not in known:
            raise ValueError(f"graph {self.name!r} never computes its output {self.output!r}")

    def with_ops(self, ops: Iterable[Op], **changes: str) -> Graph:
        """Return this graph with other ops, without the shapes of tensors that no op writes any more."""
        kept = tuple(ops)
        names = {changes.get("input", self.input), *(op.output for op in kept)}
        shapes = {name: shape for name, shape in self.shapes.items() if name in names}
        return replace(self, ops=kept, shapes=shapes, **changes)

    def readers(self) -> dict[str, list[Op]]:
        """Return the ops that read each tensor."""
        readers: dict[str, list[Op]] = {name: [] for name in self.shapes}
        for op in self.ops:
            for name in op.inputs:
                readers[name].append(op)
        return readers

    def writers(self) -> dict[str, Op]:
        """Return the op that writes each tensor; the input has none."""
        return {op.output: op for op in self.ops}

    def weighted(self) -> Iterator[Op]:
        """Return the convolutions and dense layers, in order."""
        return (op for op in self.ops if op.kind in WEIGHTED)


def treats_channels_alike(op: Op) -> bool:
    """Tell whether `op` moves or mixes pixels of one tensor, the same way in all channels, and keeps what is constant.

    Such an op commutes with a scale and an offset per channel, and with a permutation of channels.
    """
    if op.kind == "slice":
        return len(op.starts) == 3 and (op.starts[2], op.steps[2]) == (0, 1)
    return op.kind in ("resize", "max_pool", "average_pool")


def input_readers(graph: Graph) -> list[Op]:
    """Return the ops that read the graph's input, directly or through ops that treat all channels alike."""
    same, readers = {graph.input}, []
    for op in graph.ops:
        if same.isdisjoint(op.inputs):
            continue
        if treats_channels_alike(op) and op.output != graph.output:
            same.add(op.output)
        else:
            readers.append(op)
    return readers


def grouped_kernel(op: Op, kernel: Array) -> Array:
    """Return the kernel of a `conv` as files store it, (kh, kw, cin / groups, cout): the blocks that are not zero."""
    height, width, inputs, outputs = kernel.shape
    blocks = kernel.reshape(height, width, op.groups, inputs // op.groups, op.groups, outputs // op.groups)
    groups = np.arange(op.groups)
    diagonal = np.moveaxis(blocks[:, :, groups, :, groups], 0, 3)  # (kh, kw, cin / groups, groups, cout / groups)
    return diagonal.reshape(height, width, inputs // op.groups, outputs)


def output_length(size: int, window: int, stride: int, dilation: int, padding: int) -> int:
    """Return the number of positions of a window along one axis; `padding` is the sum of both sides."""
    return (size + padding - (window - 1) * dilation - 1) // stride + 1


def same_pads(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Return (before, after) of TensorFlow's 'SAME' padding along one axis."""
    total = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
