"""Ops over whole axes: softmax and global pooling."""

from __future__ import annotations

from collections.abc import Callable

from mbn_deploy.export.onnx.graph_writer import OnnxGraphWriter
from mbn_deploy.graph.graph import Op


def lower_softmax(op_type: str) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to Softmax or LogSoftmax over the channels, which an NCHW tensor has at axis 1."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        rank = len(writer.graph.shapes[op.output])
        writer.emit(op_type, op, writer.sources(op), axis=1 if rank == 4 else -1)

    return lower


def lower_global_pool(op_type: str) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to a global pooling node, with a Reshape to (N, C) unless the op keeps H and W."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        if op.keepdims:
            writer.emit(op_type, op, writer.sources(op))
        else:
            writer.flatten(op, writer.node(op_type, op, writer.sources(op), f"{op.output}/4d", op.name))

    return lower
