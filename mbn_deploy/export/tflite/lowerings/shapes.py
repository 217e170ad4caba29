"""Ops that move values or change shapes: reshape and zero padding."""

from __future__ import annotations

from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.graph.graph import Op


def lower_reshape(writer: GraphWriter, op: Op) -> None:
    """Write RESHAPE, or nothing where the file keeps both tensors in one shape."""
    if writer.shapes[op.inputs[0]] == writer.shape_in_file(op.output):
        writer.alias(op)
        return
    source = writer.source(op)
    writer.reshape(op, source, writer.result(op), f"{op.output}/shape")


def lower_pad(writer: GraphWriter, op: Op) -> None:
    """Write PAD."""
    index = write_pad(writer, op, writer.source(op), op.output)
    writer.record(op.output, index, writer.compute_type(op), writer.graph.shapes[op.output])


def write_pad(writer: GraphWriter, op: Op, source: int, name: str) -> int:
    """Append a PAD of `source`, the op's input, by the op's amounts; return the result, called `name`."""
    batch, height, width, channels = writer.shapes[op.inputs[0]]
    top, bottom, left, right = op.pads
    amounts = writer.int32_constant(f"{name}/pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    shape = (batch, height + top + bottom, width + left + right, channels)
    result = writer.tensor(op, name, shape, op.inputs[0])
    writer.emit(op, "PAD", [source, amounts], result)
    return result
