"""The first convolution for wide processors: several pixels at once, the same integers.

A picture has three channels, and a first convolution few outputs. Processors that multiply tiles of
64 channels (AMX of x86-64 servers) or copy the window of every pixel first (ONNX Runtime) spend most
of their time on what is not there. Pixels that lie side by side are one pixel with more channels, a
reshape that moves nothing: (H, W, C) to (H, W/g, gC). A convolution of stride s on it gives g/s
neighbouring outputs as channels, with the same weights at other places and zeros between them. That
is more multiplications and fewer steps; processors with narrow registers pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError
from mbn_deploy.graph.graph import Op, Shape
from mbn_deploy.graph.quantized import QuantizedGraph

PIXELS_TOGETHER = (1, 2, 4, 8)


def group_pixels(quantized: QuantizedGraph, pixels: int) -> QuantizedGraph:
    """`quantized` with first convolutions that read `pixels` neighbours of a row as one; every result is the same.

    Those that compute in float or on activations of 16 bits stay. Raises `InputError` where the width is no multiple
    of `pixels`, or where another layer reads the picture.
    """
    graph = quantized.graph
    first = [op for op in graph.readers()[graph.input] if not (quantized.is_float(op) or quantized.is_wide(op))]
    if pixels == 1 or not first:
        return quantized
    shapes, params = dict(graph.shapes), dict(quantized.activations)
    weights = dict(quantized.weights)
    groups = f"{graph.input}/groups"
    shapes[groups] = _grouped(shapes[graph.input], pixels)
    params[groups] = params[graph.input]
    ops = [Op("reshape", groups, (graph.input,), groups)]
    for op in graph.ops:
        if op not in first:
            ops.append(op)
            continue
        plan = _plan(op, shapes[graph.input], pixels)
        wide = f"{op.output}/groups"
        shapes[wide] = _grouped(shapes[op.output], plan.outputs)
        params[wide] = params[op.output]
        stored = weights[op.name]
        weights[op.name] = replace(
            stored, kernel=plan.spread(stored.kernel), scales=np.tile(stored.scales, plan.outputs),
            bias=np.tile(stored.bias, plan.outputs),
        )  # fmt: skip
        kernel, bias = op.weights()
        ops.append(
            replace(
                op,
                inputs=(groups,),
                output=wide,
                kernel=plan.spread(kernel),
                bias=np.tile(bias, plan.outputs),
                stride=(op.stride[0], 1),
                pads=(*op.pads[:2], -plan.first, plan.last),
            )
        )
        ops.append(Op("reshape", f"{op.name}/pixels", (wide,), op.output))
    made = replace(graph, shapes=shapes).with_ops(ops)
    return replace(quantized, graph=made, activations=params, weights=weights)


def _grouped(shape: Shape, pixels: int) -> Shape:
    batch, height, width, channels = shape
    return batch, height, width // pixels, channels * pixels


@dataclass(frozen=True)
class _Plan:
    """A group of `pixels` gives `outputs` results a row, from the groups `first` to `last` around it."""

    pixels: int
    outputs: int
    stride: int
    left: int
    width: int  # of the kernel

    @property
    def first(self) -> int:
        return -self.left // self.pixels

    @property
    def last(self) -> int:
        return ((self.outputs - 1) * self.stride - self.left + self.width - 1) // self.pixels

    def spread(self, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(kh, kw, i, o) to (kh, groups, pixels * i, outputs * o)."""
        height, _, inputs, channels = kernel.shape
        made = np.zeros((height, self.last - self.first + 1, self.pixels, inputs, self.outputs, channels), kernel.dtype)
        for output in range(self.outputs):
            for tap in range(self.width):
                group, pixel = divmod(output * self.stride - self.left + tap, self.pixels)
                made[:, group - self.first, pixel, :, output] = kernel[:, tap]
        return made.reshape(height, -1, self.pixels * inputs, self.outputs * channels)


def _plan(op: Op, image: Shape, pixels: int) -> _Plan:
    """How `op` reads groups; `image` is the shape of the input."""
    if op.kind != "conv" or op.dilation != (1, 1):
        raise InputError(f"layer {op.name!r} reads the picture; pixels together are for a plain convolution there")
    stride = op.stride[1]
    if image[2] % pixels or pixels % stride:
        raise InputError(
            f"{pixels} pixels together: a picture {image[2]} wide and a stride of {stride} do not allow it"
        )
    return _Plan(pixels, pixels // stride, stride, op.pads[2], op.weights()[0].shape[1])
