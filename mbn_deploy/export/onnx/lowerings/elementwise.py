"""Ops on values one by one: sums, products and activations that stand alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbn_deploy.export.onnx.graph_writer import OnnxGraphWriter
from mbn_deploy.graph.graph import Op


def lower_to(op_type: str, **attributes: Any) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to one node that reads the op's inputs."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        writer.emit(op_type, op, writer.sources(op), **attributes)

    return lower


def lower_with_offset(op_type: str) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to one node that reads the op's input and its offset."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        writer.emit(op_type, op, [*writer.sources(op), writer.offset(op)])

    return lower


def lower_relu(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Relu or Clip."""
    writer.activation(op.kind, writer.sources(op)[0], op, op.name)
