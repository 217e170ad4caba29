"""Ops that move values or change shapes: reshape, zero padding, slices, transposes and resizing."""

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


def lower_slice(writer: GraphWriter, op: Op) -> None:
    """Write SLICE, or STRIDED_SLICE where values are left out or turned around."""
    shape = writer.shape_in_file(op.output)
    ends = [0] * (len(shape) - len(op.starts)), [1] * (len(shape) - len(op.starts))
    starts, steps = (*ends[0], *op.starts), (*ends[1], *op.steps)
    source = writer.source(op)
    begin = writer.int32_constant(f"{op.output}/starts", starts)
    if set(steps) == {1}:
        size = writer.int32_constant(f"{op.output}/sizes", shape)
        writer.emit(op, "SLICE", [source, begin, size], writer.result(op))
        return
    stops = [start + step * size for start, step, size in zip(starts, steps, shape, strict=True)]
    # A stop before the first value cannot be written: it would count from the end. Its bit of the mask leaves it open.
    mask = sum(1 << axis for axis, stop in enumerate(stops) if stop < 0)
    end = writer.int32_constant(f"{op.output}/stops", [max(stop, 0) for stop in stops])
    stride = writer.int32_constant(f"{op.output}/steps", steps)
    writer.emit(op, "STRIDED_SLICE", [source, begin, end, stride], writer.result(op), endMask=mask)


def lower_transpose(writer: GraphWriter, op: Op) -> None:
    """Write TRANSPOSE."""
    order = writer.int32_constant(f"{op.output}/order", op.permutation)
    writer.emit(op, "TRANSPOSE", [writer.source(op), order], writer.result(op))


def lower_resize(writer: GraphWriter, op: Op) -> None:
    """Write RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR with half-pixel centres, as Keras resizes."""
    code = "RESIZE_BILINEAR" if op.interpolation == "bilinear" else "RESIZE_NEAREST_NEIGHBOR"
    size = writer.int32_constant(f"{op.output}/size", writer.graph.shapes[op.output][1:3])
    writer.emit(op, code, [writer.source(op), size], writer.result(op), halfPixelCenters=True)


def write_pad(writer: GraphWriter, op: Op, source: int, name: str) -> int:
    """Append a PAD of `source`, the op's input, by the op's amounts; return the result, called `name`."""
    batch, height, width, channels = writer.shapes[op.inputs[0]]
    top, bottom, left, right = op.pads
    amounts = writer.int32_constant(f"{name}/pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    shape = (batch, height + top + bottom, width + left + right, channels)
    result = writer.tensor(op, name, shape, op.inputs[0])
    writer.emit(op, "PAD", [source, amounts], result)
    return result
