"""Ops that move values or change shapes: reshape, zero padding, slices, transposes and resizing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mbn_deploy.export.onnx.graph_writer import TO_NCHW, TO_NHWC, OnnxGraphWriter, nchw
from mbn_deploy.graph.graph import Op, Shape


def lower_reshape(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Reshape, row-major in NHWC.

    A Transpose is written only where elements really move and no dense layer takes it into its weights.
    """
    source, before, after = writer.sources(op)[0], writer.graph.shapes[op.inputs[0]], writer.graph.shapes[op.output]
    if writer.flattens_into_dense(op):
        writer.mark_flattened_nchw(op)
    elif _layouts_differ(before):
        source = writer.transpose(op, source, f"{op.output}/source_nhwc", TO_NHWC)
    if _layouts_differ(after):
        reshaped = writer.reshape(op, source, f"{op.output}/nhwc", after)
        writer.values[op.output] = writer.transpose(op, reshaped, op.output, TO_NCHW)
    else:
        writer.values[op.output] = writer.reshape(op, source, op.output, nchw(after))


def _layouts_differ(shape: Shape) -> bool:
    """Tell whether NHWC and NCHW have the elements in different orders."""
    return len(shape) == 4 and shape[3] > 1 and math.prod(shape[1:3]) > 1


def lower_pad(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Pad with zeros."""
    amounts = writer.build.constant(f"{op.name}/pads", pad_amounts(op))
    writer.emit("Pad", op, [*writer.sources(op), amounts, writer.scalar(0.0)])


def lower_slice(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Slice."""
    writer.emit("Slice", op, [*writer.sources(op), *slice_constants(writer, op)])


def slice_constants(writer: OnnxGraphWriter, op: Op) -> list[str]:
    """Add the inputs of a Slice beside its source: starts, stops, axes of the file, and steps; return their names."""
    sizes = writer.graph.shapes[op.output][1:]
    stops = [start + step * size for start, step, size in zip(op.starts, op.steps, sizes, strict=True)]
    # A stop before the first value would count from the end, unless it lies before the tensor's other end, too.
    stops = [np.iinfo(np.int32).min if stop < 0 else stop for stop in stops]
    axes = [_file_axis(axis, len(sizes) + 1) for axis in range(1, len(sizes) + 1)]
    parts = {"starts": op.starts, "stops": stops, "axes": axes, "steps": op.steps}
    return [writer.build.constant(f"{op.name}/{part}", np.array(n, np.int64)) for part, n in parts.items()]


def lower_transpose(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Transpose."""
    writer.emit("Transpose", op, writer.sources(op), perm=file_permutation(op))


def file_permutation(op: Op) -> list[int]:
    """Return the permutation of a transpose for the file's axes."""
    rank = len(op.permutation)
    graph_axes = TO_NCHW if rank == 4 else range(rank)  # the axis of the graph that each axis of the file is
    return [_file_axis(op.permutation[axis], rank) for axis in graph_axes]


def lower_resize(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Resize with half-pixel centres, as Keras resizes; ties of nearest go to the right."""
    sizes = writer.build.constant(f"{op.name}/sizes", np.array(nchw(writer.graph.shapes[op.output]), np.int64))
    mode = (
        {"mode": "linear"}
        if op.interpolation == "bilinear"
        else {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    )
    inputs = [*writer.sources(op), "", "", sizes]
    writer.emit("Resize", op, inputs, coordinate_transformation_mode="half_pixel", **mode)


def _file_axis(axis: int, rank: int) -> int:
    """Return the number that an axis of the graph has in the file."""
    return TO_NCHW.index(axis) if rank == 4 else axis


def pad_amounts(op: Op) -> npt.NDArray[np.int64]:
    """Return the `pads` input of a Pad node: begins of N, C, H, W, then ends."""
    top, bottom, left, right = op.pads
    return np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
