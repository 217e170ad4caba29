"""Ops over whole axes: softmax, global pooling, maxima and normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.export.tflite.storage import float_constant
from mbn_deploy.graph.graph import Op, Shape


def lower_softmax(code: str, **options: Any) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to SOFTMAX or LOG_SOFTMAX over the last axis, in the shape that the graph says."""

    def lower(writer: GraphWriter, op: Op) -> None:
        source, wanted = writer.source(op), writer.graph.shapes[op.inputs[0]]
        if writer.shapes[op.inputs[0]] != wanted:
            name = f"{op.inputs[0]}/vector"
            vector = writer.tensor(op, name, wanted, op.inputs[0])
            writer.reshape(op, source, vector, f"{name}/shape")
            source = vector
        writer.emit(op, code, [source], writer.result(op, writer.graph.shapes[op.output]), **options)

    return lower


def lower_channel_max(writer: GraphWriter, op: Op) -> None:
    """Write REDUCE_MAX over the channels."""
    axes = writer.int32_constant(f"{op.output}/axes", [3])
    writer.emit(op, "REDUCE_MAX", [writer.source(op), axes], writer.result(op), keepDims=True)


def lower_normalize(writer: GraphWriter, op: Op) -> None:
    """Write (x - mean) / sqrt(variance + epsilon) over the last axis, in float."""
    source, shape = writer.source(op), writer.shapes[op.inputs[0]]
    axes = writer.int32_constant(f"{op.output}/axes", [len(shape) - 1])

    def step(code: str, inputs: list[int], part: str, size: Shape, **options: Any) -> int:
        result = writer.build.tensor(f"{op.output}/{part}", size, "float32")
        writer.emit(op, code, inputs, result, **options)
        return result

    one = (*shape[:-1], 1)
    mean = step("MEAN", [source, axes], "mean", one, keepDims=True)
    centred = step("SUB", [source, mean], "centred", shape)
    squares = step("MUL", [centred, centred], "squares", shape)
    variance = step("MEAN", [squares, axes], "variance", one, keepDims=True)
    epsilon = float_constant(writer.build, f"{op.output}/epsilon", op.epsilon)
    factor = step("RSQRT", [step("ADD", [variance, epsilon], "positive", one)], "factor", one)
    writer.emit(op, "MUL", [centred, factor], writer.result(op, shape))


def lower_l2_normalize(writer: GraphWriter, op: Op) -> None:
    """Write L2_NORMALIZATION, which divides by at least 1e-6: a smaller epsilon matters for no vector in use."""
    writer.emit(op, "L2_NORMALIZATION", [writer.source(op)], writer.result(op, writer.shapes[op.inputs[0]]))


def lower_global_pool(code: str) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to `code`, a reduction over height and width."""

    def lower(writer: GraphWriter, op: Op) -> None:
        axes = writer.int32_constant(f"{op.output}/axes", [1, 2])
        sources = [writer.source(op), axes]
        writer.emit(op, code, sources, writer.result(op), keepDims=True)

    return lower
