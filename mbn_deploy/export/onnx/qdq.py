"""Quantized graphs become int8 .onnx files in QDQ form: a QuantizeLinear and a DequantizeLinear at every tensor.

ONNX Runtime replaces DequantizeLinear, op and QuantizeLinear by one integer op when it opens the file. So every op
is written between such a pair of its own, with nothing between the op and its QuantizeLinear: ReLU and ReLU6 are the
saturation of the integers, or a Clip of the integers behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mbn_deploy.errors import InputError
from mbn_deploy.export.file_types import NO_INT16, OnnxActivationType
from mbn_deploy.export.onnx.graph_writer import input_shape, nchw
from mbn_deploy.export.onnx.lowerings.table import FLOAT_LOWERINGS, INTEGER_LOWERINGS
from mbn_deploy.export.onnx.qdq_writer import QdqGraphWriter
from mbn_deploy.graph.quantized import QuantizedGraph
from mbn_deploy.manifest import Layout

InputType = Literal["uint8", "int8", "float32"]


def write_onnx_int8(
    quantized: QuantizedGraph,
    *,
    activation_dtype: OnnxActivationType = "uint8",
    input_dtype: InputType = "uint8",
    layout: Layout = "nchw",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Write an int8 .onnx file (QDQ) with per-channel int8 weights and int32 biases.

    The input is `graph.input` in NCHW, or NHWC with one Transpose of the bytes. With `input_dtype="uint8"` it takes
    raw pixels if the graph's input quantization is the preprocessing; uint8 and int8 go straight into a
    DequantizeLinear, float32 through a QuantizeLinear first. The output `graph.output` is float32 for every input
    type, behind the last DequantizeLinear: real scores, as users of ONNX expect them. Everything in between is
    computed in integers, except the graph's float ops.

    `activation_dtype`: uint8 runs everywhere. On x86-64 ONNX Runtime has integer kernels for uint8 activations with
    int8 weights only (it converts int8 activations when it opens the file; what it cannot convert falls back to
    float), on ARM64 it has kernels for both. int8 is worth a trial on ARM64, where only signed activations have the
    symmetric GEMM of pointwise convolutions in MLAS (platform.cpp: SymmQgemmDispatch). x86-64 without VNNI adds pairs
    of uint8 x int8 products in 16 bits, which can saturate; the session option "session.x64quantprecision" = "1" is
    exact there, and slower.

    Raises:
        InputError: the graph has an op without an integer form, has activations of 16 bits, or onnx' checker
            refuses the file.
    """
    graph = quantized.graph
    if quantized.int16_outputs:
        raise InputError(f"{graph.name}: {NO_INT16}")
    writer = QdqGraphWriter(quantized, activation_dtype)
    writer.write_input(input_dtype, layout)
    for op in graph.ops:
        lower = (FLOAT_LOWERINGS if quantized.is_float(op) else INTEGER_LOWERINGS).get(op.kind)
        if lower is None:
            raise InputError(
                f"layer {op.name!r}: {op.kind!r} is not written to ONNX; it must be lowered before int8 is written"
            )
        lower(writer, op)
    source = (graph.input, input_dtype, input_shape(graph, layout))
    return writer.build.finish(source, [(graph.output, "float32", nchw(graph.shapes[graph.output]))], metadata or {})
