"""The state of an .onnx file while it is written: the name under which each tensor of the graph is read.

Inside everything is NCHW; the only Transpose of a normal file is at an NHWC input. The tensors of the graph keep
their names, so that any of them can be requested as an output; nodes carry the names of the Keras layers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.export.onnx.builder import OnnxBuilder
from mbn_deploy.graph.graph import Graph, Op, Shape
from mbn_deploy.manifest import Layout

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
RELU6_BOUND = 6.0
_BOUNDS = {"relu6": RELU6_BOUND, "unit": 1.0}


def nchw(shape: Shape) -> Shape:
    """Return (N, H, W, C) as (N, C, H, W); other ranks are the same in the file as in the graph."""
    return tuple(shape[i] for i in TO_NCHW) if len(shape) == 4 else shape


def input_shape(graph: Graph, layout: Layout) -> Shape:
    """Return the shape of the file's input."""
    shape = graph.shapes[graph.input]
    return shape if layout == "nhwc" else nchw(shape)


def channel_offset(op: Op, rank: int) -> npt.NDArray[np.float64]:
    """Return the op's offset in a shape that broadcasts over a tensor of `rank` in NCHW."""
    if op.offset is None:
        raise ValueError(f"op {op.name!r} ({op.kind}) has no offset")
    return op.offset.reshape(1, -1, 1, 1) if rank == 4 and op.offset.size > 1 else op.offset


class OnnxGraphWriter:
    """One .onnx file of float32 ops being written; `QdqGraphWriter` stores weights and results as integers.

    `values` gives the name under which nodes read a tensor of the graph. `requested` are the tensors that the file
    has as outputs.
    """

    def __init__(self, graph: Graph, requested: Collection[str]) -> None:
        self.graph = graph
        self.build = OnnxBuilder(graph.name)
        self.values: dict[str, str] = {}
        self._readers = graph.readers()
        self._requested = requested
        self._flattened_nchw: dict[str, Shape] = {}  # flattened without a Transpose: the shape before

    # What an op reads

    def sources(self, op: Op) -> list[str]:
        """Return the names under which the op's inputs are read."""
        return [self.values[name] for name in op.inputs]

    def kernel(self, op: Op) -> npt.NDArray[Any]:
        """Return the op's kernel in the graph's layout."""
        return op.weights()[0]

    def weights(self, op: Op, kernel: npt.NDArray[Any]) -> list[str]:
        """Add kernel and bias and return their names; `kernel` is in the file's layout, output channels first."""
        bias = op.weights()[1]
        return [self.build.constant(f"{op.name}/kernel", kernel), self.build.constant(f"{op.name}/bias", bias)]

    def offset(self, op: Op) -> str:
        """Add the constant that `op` adds, one number or one per channel, and return its name."""
        values = channel_offset(op, len(self.graph.shapes[op.output])).astype(np.float32)
        return self.build.constant(f"{op.name}/offset", values) if values.size > 1 else self.scalar(op.number())

    def axis(self, op: Op) -> int:
        """Return the axis of `op` as the file has it: NCHW tensors have the channels at axis 1."""
        rank = len(self.graph.shapes[op.output])
        axis = op.axis % rank
        return TO_NCHW.index(axis) if rank == 4 else axis

    def slopes(self, op: Op) -> npt.NDArray[np.float64]:
        """Return the slopes of a `prelu` in a shape that broadcasts over its input: (C, 1, 1) or (C, H, W)."""
        slopes = op.slopes()
        if len(self.graph.shapes[op.output]) != 4:
            return slopes
        return slopes.reshape(-1, 1, 1) if slopes.ndim == 1 else np.ascontiguousarray(np.moveaxis(slopes, -1, 0))

    def scalar(self, value: float) -> str:
        """Return the name of a float32 constant that all nodes share."""
        return self.build.constant(f"constant/{value:g}", np.array(value, np.float32))

    # What an op writes

    def node(self, op_type: str, op: Op, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        """Append one of the nodes that `op` consists of; return the name under which its result is read."""
        _ = op
        return self.build.node(op_type, name, inputs, output, **attributes)

    def emit(self, op_type: str, op: Op, inputs: Sequence[str], **attributes: Any) -> None:
        """Append the node that computes `op`, and its activation."""
        if op.activation == "none":
            self.values[op.output] = self.node(op_type, op, inputs, op.output, op.name, **attributes)
        else:
            inner = self.node(op_type, op, inputs, f"{op.output}/linear", op.name, **attributes)
            self.activation(op.activation, inner, op, f"{op.name}/{op.activation}")

    def activation(self, kind: str, source: str, op: Op, name: str) -> None:
        """Append ReLU, ReLU6 or the clip to [0, 1], from `source` to the op's output."""
        bound = _BOUNDS.get(kind)
        inputs = [source] if bound is None else [source, self.scalar(0.0), self.scalar(bound)]
        self.values[op.output] = self.node("Relu" if bound is None else "Clip", op, inputs, op.output, name)

    # Layout and shape

    def to_nchw(self, source: str, output: str) -> str:
        """Append the Transpose of the file's NHWC input to NCHW."""
        return self.build.node("Transpose", f"{output}/transpose", [source], output, perm=list(TO_NCHW))

    def transpose(self, op: Op, source: str, output: str, order: Sequence[int]) -> str:
        """Append a Transpose that `op` needs; return its result."""
        return self.node("Transpose", op, [source], output, f"{output}/transpose", perm=list(order))

    def reshape(self, op: Op, source: str, output: str, shape: Shape, name: str = "") -> str:
        """Append a Reshape that `op` needs, called `name` or like the op; return its result."""
        constant = self.build.constant(f"{output}/shape", np.array(shape, np.int64))
        return self.node("Reshape", op, [source, constant], output, name or op.name)

    def flatten(self, op: Op, source: str) -> None:
        """Append the op's way from (N, C, 1, 1) to its output (N, C).

        It is a Reshape, since ONNX Runtime 1.19 does not compute a Flatten in integers.
        """
        shape = self.graph.shapes[op.output]
        self.values[op.output] = self.reshape(op, source, op.output, shape, f"{op.name}/flatten")

    def flattens_into_dense(self, op: Op) -> bool:
        """Tell whether this reshape may flatten in NCHW order, because only dense layers, with rows moved, read it."""
        readers = self._readers[op.output]
        flattens = len(self.graph.shapes[op.inputs[0]]) == 4 and len(self.graph.shapes[op.output]) == 2
        return flattens and op.output not in self._requested and all(r.kind == "dense" for r in readers)

    def mark_flattened_nchw(self, op: Op) -> None:
        """Note that the output of this reshape is in NCHW order."""
        self._flattened_nchw[op.output] = self.graph.shapes[op.inputs[0]]

    def dense_kernel(self, op: Op) -> npt.NDArray[Any]:
        """Return the kernel (cin, cout), its rows in the order in which the file flattens the input."""
        kernel = self.kernel(op)
        before = self._flattened_nchw.get(op.inputs[0])
        if before is None:
            return kernel
        moved: npt.NDArray[Any] = kernel.reshape(*before[1:], -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        return moved
