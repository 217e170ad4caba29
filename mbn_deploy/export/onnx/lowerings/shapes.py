"""Ops that move values or change shapes: reshape and zero padding."""

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


def pad_amounts(op: Op) -> npt.NDArray[np.int64]:
    """Return the `pads` input of a Pad node: begins of N, C, H, W, then ends."""
    top, bottom, left, right = op.pads
    return np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
