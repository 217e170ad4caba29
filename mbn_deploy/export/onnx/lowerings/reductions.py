"""Ops over whole axes: softmax, global pooling, maxima and normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbn_deploy.export.onnx.graph_writer import OnnxGraphWriter
from mbn_deploy.graph.graph import Op


def lower_softmax(op_type: str) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to Softmax or LogSoftmax over the channels, which an NCHW tensor has at axis 1."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        rank = len(writer.graph.shapes[op.output])
        writer.emit(op_type, op, writer.sources(op), axis=1 if rank == 4 else -1)

    return lower


def lower_channel_max(writer: OnnxGraphWriter, op: Op) -> None:
    """Write ReduceMax over the channels."""
    writer.emit("ReduceMax", op, writer.sources(op), axes=[1], keepdims=1)


def lower_normalize(writer: OnnxGraphWriter, op: Op) -> None:
    """Write (x - mean) / sqrt(variance + epsilon) over the channels, in float.

    LayerNormalization of ONNX works on the last axes only, which are not the channels of an NCHW image.
    """
    (source,), axes = writer.sources(op), [_channel_axis(writer, op)]

    def step(op_type: str, inputs: list[str], part: str, **attributes: Any) -> str:
        return writer.node(op_type, op, inputs, f"{op.output}/{part}", f"{op.name}/{part}", **attributes)

    mean = step("ReduceMean", [source], "mean", axes=axes, keepdims=1)
    centred = step("Sub", [source, mean], "centred")
    squares = step("Mul", [centred, centred], "squares")
    variance = step("ReduceMean", [squares], "variance", axes=axes, keepdims=1)
    positive = step("Add", [variance, writer.scalar(op.epsilon)], "positive")
    writer.emit("Div", op, [centred, step("Sqrt", [positive], "deviation")])


def lower_l2_normalize(writer: OnnxGraphWriter, op: Op) -> None:
    """Write x / max(norm, epsilon) over the channels, in float."""
    (source,) = writer.sources(op)
    axes = [_channel_axis(writer, op)]
    norm = writer.node("ReduceL2", op, [source], f"{op.output}/norm", f"{op.name}/norm", axes=axes, keepdims=1)
    bound = [norm, writer.scalar(op.epsilon)]
    writer.emit("Div", op, [source, writer.node("Max", op, bound, f"{op.output}/bound", f"{op.name}/bound")])


def _channel_axis(writer: OnnxGraphWriter, op: Op) -> int:
    """Return the file's axis of the last axis of the graph."""
    rank = len(writer.graph.shapes[op.output])
    return 1 if rank == 4 else rank - 1


def lower_global_pool(op_type: str) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to a global pooling node, with a Reshape to (N, C) unless the op keeps H and W."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        if op.keepdims:
            writer.emit(op_type, op, writer.sources(op))
        else:
            writer.flatten(op, writer.node(op_type, op, writer.sources(op), f"{op.output}/4d", op.name))

    return lower
