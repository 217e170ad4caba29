"""Ops over whole axes: softmax and global pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.graph.graph import Op


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


def lower_global_pool(code: str) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to `code`, a reduction over height and width."""

    def lower(writer: GraphWriter, op: Op) -> None:
        axes = writer.int32_constant(f"{op.output}/axes", [1, 2])
        sources = [writer.source(op), axes]
        writer.emit(op, code, sources, writer.result(op), keepDims=True)

    return lower
