"""Integer forms of ops that ONNX Runtime would compute in float if they were written as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mbn_deploy.export.onnx.graph_writer import RELU6_BOUND
from mbn_deploy.export.onnx.lowerings.functions import FUNCTIONS
from mbn_deploy.export.onnx.lowerings.shapes import file_permutation, pad_amounts, slice_constants
from mbn_deploy.export.onnx.qdq_writer import QdqGraphWriter
from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import INT8_MAX, INT8_MIN, QuantParams, params_for

_GATE = QuantParams(1 / 255, INT8_MIN)  # 256 levels on [0, 1]


def lower_hard_swish(writer: QdqGraphWriter, op: Op) -> None:
    """Write x * clip(x / 6 + 1/2, 0, 1): ONNX Runtime has no integer HardSwish, but integer Add and Mul.

    x / 6 costs nothing: the integers of x are read with a sixth of their scale.
    """
    sixth = writer.scaled(op.inputs[0], 1 / RELU6_BOUND, f"{op.output}/sixth")
    half = writer.number(0.5, _GATE, f"{op.output}/half")
    added = writer.build.node("Add", f"{op.name}/gate", [sixth, half], f"{op.output}/gate/float")
    gate = writer.store(added, f"{op.output}/gate", _GATE)
    writer.emit("Mul", op, [*writer.sources(op), gate])


def lower_pad(writer: QdqGraphWriter, op: Op) -> None:
    """Write Pad directly on the integers, with the level of zero: ONNX Runtime has no integer Pad between Q and DQ."""
    writer.pad(op, pad_amounts(op))


def lower_channel_max(writer: QdqGraphWriter, op: Op) -> None:
    """Write ReduceMax directly on the integers: ONNX Runtime computes it in float between Q and DQ."""
    writer.moves("ReduceMax", op, axes=[1], keepdims=1)


def lower_slice(writer: QdqGraphWriter, op: Op) -> None:
    """Write Slice directly on the integers."""
    writer.moves("Slice", op, slice_constants(writer, op))


def lower_transpose(writer: QdqGraphWriter, op: Op) -> None:
    """Write Transpose directly on the integers."""
    writer.moves("Transpose", op, perm=file_permutation(op))


def lower_global_max_pool(writer: QdqGraphWriter, op: Op) -> None:
    """Write MaxPool over the whole image: it has integer kernels, GlobalMaxPool has none."""
    size = list(writer.graph.shapes[op.inputs[0]][1:3])
    if op.keepdims:
        writer.emit("MaxPool", op, writer.sources(op), kernel_shape=size)
    else:
        pooled = writer.node("MaxPool", op, writer.sources(op), f"{op.output}/4d", op.name, kernel_shape=size)
        writer.flatten(op, pooled)


def lower_comparison(op_type: str) -> Callable[[QdqGraphWriter, Op], None]:
    """Return the lowering to Max or Min of the integers: ONNX Runtime has no such operation between Q and DQ."""

    def lower(writer: QdqGraphWriter, op: Op) -> None:
        writer.on_integers(op_type, op)

    return lower


def lower_clip(writer: QdqGraphWriter, op: Op) -> None:
    """Write the bounds as the saturation of the integers."""
    params = writer.quantized.activations[op.output]
    writer.values[op.output] = writer.store(writer.sources(op)[0], op.output, params)


def lower_prelu(writer: QdqGraphWriter, op: Op) -> None:
    """Write max(x, 0) + slopes * min(x, 0): ONNX Runtime has no integer PRelu, but integer Add and Mul."""
    params = writer.quantized.activations[op.inputs[0]]
    positive = writer.clipped(op.inputs[0], (params.zero_point, INT8_MAX), f"{op.output}/positive")
    negative = writer.clipped(op.inputs[0], (INT8_MIN, params.zero_point), f"{op.output}/negative")
    slopes = writer.slopes(op)
    factors = [negative, writer.small(f"{op.output}/slopes", slopes)]
    products = writer.build.node("Mul", f"{op.name}/product", factors, f"{op.output}/product/float")
    ends = params.range[0] * np.array([slopes.min(), slopes.max()])
    scaled = writer.store(products, f"{op.output}/product", params_for(float(ends.min()), float(ends.max())))
    writer.emit("Add", op, [positive, scaled])


def lower_lookup(writer: QdqGraphWriter, op: Op) -> None:
    """Write a Gather from a table with the result of every level: it is exact, and the same on all processors."""
    writer.lookup(op, FUNCTIONS[op.kind])
