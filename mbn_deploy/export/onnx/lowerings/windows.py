"""Ops that slide a window, and dense layers: Conv, Gemm and pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mbn_deploy.export.onnx.graph_writer import OnnxGraphWriter
from mbn_deploy.graph.graph import Op, grouped_kernel


def lower_conv(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Conv; kernel (kh, kw, cin, cout) to (cout, cin / groups, kh, kw)."""
    kernel = grouped_kernel(op, writer.kernel(op))
    oihw = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    inputs = [*writer.sources(op), *writer.weights(op, oihw)]
    writer.emit("Conv", op, inputs, **_window(op, kernel.shape[:2]), dilations=list(op.dilation), group=op.groups)


def lower_depthwise(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Conv with a group per channel; kernel (kh, kw, c, m) to (c * m, 1, kh, kw)."""
    kernel = writer.kernel(op)
    height, width, channels, multiplier = kernel.shape
    oihw = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    inputs = [*writer.sources(op), *writer.weights(op, oihw)]
    writer.emit("Conv", op, inputs, **_window(op, (height, width)), dilations=list(op.dilation), group=channels)


def lower_dense(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Gemm with a kernel (cout, cin)."""
    kernel = np.ascontiguousarray(writer.dense_kernel(op).T)
    writer.emit("Gemm", op, [*writer.sources(op), *writer.weights(op, kernel)], transB=1)


def lower_pool(op_type: str, **attributes: Any) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to a pooling node."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        writer.emit(op_type, op, writer.sources(op), **_window(op, op.window), **attributes)

    return lower


def _window(op: Op, size: Sequence[int]) -> dict[str, Any]:
    """Return the attributes of a node that slides a window of `size` (height, width)."""
    top, bottom, left, right = op.pads
    return {"kernel_shape": list(size), "strides": list(op.stride), "pads": [top, left, bottom, right]}
