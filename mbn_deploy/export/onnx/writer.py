"""Folded graphs become float32 .onnx files, emitted node by node.

Inside everything is NCHW; the only Transpose of a normal file stands at an NHWC input. The values
of the graph keep their names, so any of them can be asked for as an output; nodes carry the names
of the Keras layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.builder import OnnxBuilder
from mbn_deploy.graph.graph import Graph, Op, Shape
from mbn_deploy.manifest import Layout

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
RELU6_BOUND = 6.0
_BOUNDS = {"relu6": RELU6_BOUND, "unit": 1.0}


def write_onnx(
    graph: Graph,
    *,
    metadata: Mapping[str, str] | None = None,
    layout: Layout = "nchw",
    extra_outputs: Sequence[str] = (),
) -> bytes:
    """An .onnx file with float32 input and output, of the folded `graph` (static batch).

    The input carries the name `graph.input` and is (N, C, H, W), or (N, H, W, C) with
    `layout="nhwc"` (one Transpose); the output is called `graph.output`. `extra_outputs` are further
    tensors of the graph to be handed out, 4-D ones as (N, C, H, W). `metadata` becomes the file's
    metadata_props. Raises `InputError` for ops that are not written, and where onnx finds fault.
    """
    outputs = (graph.output, *(name for name in extra_outputs if name != graph.output))
    walk = Walk(graph, frozenset(outputs))
    nhwc = layout == "nhwc"
    walk.values[graph.input] = walk.to_nchw(graph.input, f"{graph.input}/nchw") if nhwc else graph.input
    walk.ops()
    source = (graph.input, "float32", input_shape(graph, layout))
    results = [(name, "float32", nchw(graph.shapes[name])) for name in outputs]
    return walk.build.finish(source, results, metadata or {})


def input_shape(graph: Graph, layout: Layout) -> Shape:
    """The shape of the file's input."""
    shape = graph.shapes[graph.input]
    return shape if layout == "nhwc" else nchw(shape)


def nchw(shape: Shape) -> Shape:
    """(N, H, W, C) as (N, C, H, W); other ranks are the same in the file as in the graph."""
    return tuple(shape[i] for i in _TO_NCHW) if len(shape) == 4 else shape


class Walk:
    """One file being written. The float form; `onnx_qdq` overrides how weights and results are stored.

    `values` says under which name the nodes read a tensor of the graph.
    """

    remedy = "fold the graph first"

    def __init__(self, graph: Graph, wanted: Collection[str]) -> None:
        self.graph = graph
        self.build = OnnxBuilder(graph.name)
        self.values: dict[str, str] = {}
        self._readers = graph.readers()
        self._wanted = wanted
        self._nchw_rows: dict[str, Shape] = {}  # flattened without a Transpose: the shape before

    def weights(self, op: Op, kernel: npt.NDArray[Any]) -> list[str]:
        """Names of kernel and bias; `kernel` is in the file's layout, output channels first."""
        bias = op.weights()[1]
        return [self.build.constant(f"{op.name}/kernel", kernel), self.build.constant(f"{op.name}/bias", bias)]

    def kernel(self, op: Op) -> npt.NDArray[Any]:
        """The op's kernel as the graph has it."""
        return op.weights()[0]

    def node(self, op_type: str, op: Op, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        """One node of those that `op` consists of; returns the name under which its result is read."""
        _ = op
        return self.build.node(op_type, name, inputs, output, **attributes)

    def emit(self, op_type: str, op: Op, inputs: Sequence[str], **attributes: Any) -> None:
        """The node that computes `op`, and its activation."""
        if op.activation == "none":
            self.values[op.output] = self.node(op_type, op, inputs, op.output, op.name, **attributes)
        else:
            inner = self.node(op_type, op, inputs, f"{op.output}/linear", op.name, **attributes)
            self.activation(op.activation, inner, op, f"{op.name}/{op.activation}")

    def activation(self, kind: str, source: str, op: Op, name: str) -> None:
        """ReLU, ReLU6 or the clip to [0, 1], from `source` to the op's output."""
        bound = _BOUNDS.get(kind)
        inputs = [source] if bound is None else [source, self.scalar(0.0), self.scalar(bound)]
        self.values[op.output] = self.node("Relu" if bound is None else "Clip", op, inputs, op.output, name)

    def offset(self, op: Op) -> str:
        """What `op` adds: a number, or one a channel."""
        values = per_channel(op, len(self.graph.shapes[op.output])).astype(np.float32)
        return self.build.constant(f"{op.name}/offset", values) if values.size > 1 else self.scalar(op.number())

    def scalar(self, value: float) -> str:
        """A float32 constant that all nodes share."""
        return self.build.constant(f"constant/{value:g}", np.array(value, np.float32))

    def ops(self) -> None:
        """Write every op of the graph."""
        for op in self.graph.ops:
            lower = self.lower(op)
            if lower is None:
                raise InputError(f"layer {op.name!r}: {op.kind!r} is not written to ONNX; {self.remedy}")
            lower(self, op)

    def lower(self, op: Op) -> Callable[[Any, Op], None] | None:
        """How the op is written; `None` if it is not."""
        return LOWERINGS.get(op.kind)

    def sources(self, op: Op) -> list[str]:
        """Names under which the op's inputs are read."""
        return [self.values[name] for name in op.inputs]

    def to_nchw(self, source: str, output: str) -> str:
        """The file's NHWC input as NCHW: the only Transpose of a normal file."""
        return self.build.node("Transpose", f"{output}/transpose", [source], output, perm=list(_TO_NCHW))

    def transpose(self, op: Op, source: str, output: str, order: Sequence[int]) -> str:
        """A Transpose that `op` needs; returns its result."""
        return self.node("Transpose", op, [source], output, f"{output}/transpose", perm=list(order))

    def reshape(self, op: Op, source: str, output: str, shape: Shape) -> str:
        """The Reshape of `op`; returns its result."""
        constant = self.build.constant(f"{output}/shape", np.array(shape, np.int64))
        return self.node("Reshape", op, [source, constant], output, op.name)

    def flattens_into_dense(self, op: Op) -> bool:
        """Whether this reshape may flatten in NCHW order, because only dense layers read it: they reorder rows."""
        readers = self._readers[op.output]
        flattens = len(self.graph.shapes[op.inputs[0]]) == 4 and len(self.graph.shapes[op.output]) == 2
        return flattens and op.output not in self._wanted and all(r.kind == "dense" for r in readers)

    def mark_nchw_rows(self, op: Op) -> None:
        """Remember that the output of this reshape is in NCHW order."""
        self._nchw_rows[op.output] = self.graph.shapes[op.inputs[0]]

    def dense_kernel(self, op: Op) -> npt.NDArray[Any]:
        """(cin, cout), rows in the order in which the file flattens the input."""
        kernel = self.kernel(op)
        before = self._nchw_rows.get(op.inputs[0])
        if before is None:
            return kernel
        moved: npt.NDArray[Any] = kernel.reshape(*before[1:], -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        return moved


def _onnx_pads(op: Op) -> list[int]:
    top, bottom, left, right = op.pads
    return [top, left, bottom, right]


def window(op: Op, size: Sequence[int]) -> dict[str, Any]:
    """Attributes of a node that slides a window."""
    return {"kernel_shape": list(size), "strides": list(op.stride), "pads": _onnx_pads(op)}


def _lower_conv(walk: Walk, op: Op) -> None:
    kernel = walk.kernel(op)
    made = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    inputs = [*walk.sources(op), *walk.weights(op, made)]
    walk.emit("Conv", op, inputs, **window(op, kernel.shape[:2]), dilations=list(op.dilation), group=1)


def _lower_depthwise(walk: Walk, op: Op) -> None:
    kernel = walk.kernel(op)
    height, width, channels, multiplier = kernel.shape
    made = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    inputs = [*walk.sources(op), *walk.weights(op, made)]
    walk.emit("Conv", op, inputs, **window(op, (height, width)), dilations=list(op.dilation), group=channels)


def _lower_dense(walk: Walk, op: Op) -> None:
    made = np.ascontiguousarray(walk.dense_kernel(op).T)
    walk.emit("Gemm", op, [*walk.sources(op), *walk.weights(op, made)], transB=1)


def _plain(op_type: str, **attributes: Any) -> Callable[[Walk, Op], None]:
    def lower(walk: Walk, op: Op) -> None:
        walk.emit(op_type, op, walk.sources(op), **attributes)

    return lower


def _lower_add_constant(walk: Walk, op: Op) -> None:
    walk.emit("Add", op, [*walk.sources(op), walk.offset(op)])


def _lower_minimum(walk: Walk, op: Op) -> None:
    walk.emit("Min", op, [*walk.sources(op), walk.offset(op)])


def per_channel(op: Op, rank: int) -> npt.NDArray[np.float64]:
    """The op's offset, shaped so that it spreads over a tensor of `rank` in NCHW."""
    if op.offset is None:
        raise ValueError(f"op {op.name!r} ({op.kind}) has no offset")
    return op.offset.reshape(1, -1, 1, 1) if rank == 4 and op.offset.size > 1 else op.offset


def _lower_relu(walk: Walk, op: Op) -> None:
    walk.activation(op.kind, walk.sources(op)[0], op, op.name)


def _lower_softmax(walk: Walk, op: Op) -> None:
    rank = len(walk.graph.shapes[op.output])  # over channels, which an NCHW tensor has at axis 1
    walk.emit("Softmax", op, walk.sources(op), axis=1 if rank == 4 else -1)


def _lower_global_pool(walk: Walk, op: Op) -> None:
    op_type = "GlobalAveragePool" if op.kind == "global_average_pool" else "GlobalMaxPool"
    if op.keepdims:
        walk.emit(op_type, op, walk.sources(op))
        return
    pooled = walk.node(op_type, op, walk.sources(op), f"{op.output}/4d", op.name)
    flatten(walk, op, pooled)


def flatten(walk: Walk, op: Op, source: str) -> None:
    """From (N, C, 1, 1) to the op's output (N, C).

    A Reshape, since ONNX Runtime 1.19 leaves a Flatten between its QuantizeLinear nodes.
    """
    shape = walk.build.constant(f"{op.output}/shape", np.array(walk.graph.shapes[op.output], np.int64))
    walk.values[op.output] = walk.node("Reshape", op, [source, shape], op.output, f"{op.name}/flatten")


def _lower_pool(walk: Walk, op: Op) -> None:
    if op.kind == "average_pool":
        walk.emit("AveragePool", op, walk.sources(op), **window(op, op.window), count_include_pad=0)
    else:
        walk.emit("MaxPool", op, walk.sources(op), **window(op, op.window))


def _lower_reshape(walk: Walk, op: Op) -> None:
    """Row-major in NHWC. A Transpose stands only where elements really move and no dense layer takes it in."""
    source, before, after = walk.sources(op)[0], walk.graph.shapes[op.inputs[0]], walk.graph.shapes[op.output]
    if walk.flattens_into_dense(op):
        walk.mark_nchw_rows(op)
    elif _moves(before):
        source = walk.transpose(op, source, f"{op.output}/source_nhwc", _TO_NHWC)
    if _moves(after):
        reshaped = walk.reshape(op, source, f"{op.output}/nhwc", after)
        walk.values[op.output] = walk.transpose(op, reshaped, op.output, _TO_NCHW)
    else:
        walk.values[op.output] = walk.reshape(op, source, op.output, nchw(after))


def _moves(shape: Shape) -> bool:
    """Whether NHWC and NCHW lie differently in memory."""
    return len(shape) == 4 and shape[3] > 1 and math.prod(shape[1:3]) > 1


def pad_amounts(op: Op) -> npt.NDArray[np.int64]:
    """The `pads` input of a Pad node: begins of N, C, H, W, then ends."""
    top, bottom, left, right = op.pads
    return np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)


def _lower_pad(walk: Walk, op: Op) -> None:
    amounts = walk.build.constant(f"{op.name}/pads", pad_amounts(op))
    walk.emit("Pad", op, [*walk.sources(op), amounts, walk.scalar(0.0)])


LOWERINGS: Mapping[str, Callable[[Walk, Op], None]] = {
    "conv": _lower_conv,
    "depthwise": _lower_depthwise,
    "dense": _lower_dense,
    "add": _plain("Add"),
    "add_constant": _lower_add_constant,
    "minimum": _lower_minimum,
    "multiply": _plain("Mul"),
    "relu": _lower_relu,
    "relu6": _lower_relu,
    "hard_swish": _plain("HardSwish"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sigmoid": _plain("Sigmoid"),
    "softmax": _lower_softmax,
    "global_average_pool": _lower_global_pool,
    "global_max_pool": _lower_global_pool,
    "average_pool": _lower_pool,
    "max_pool": _lower_pool,
    "reshape": _lower_reshape,
    "pad": _lower_pad,
}
