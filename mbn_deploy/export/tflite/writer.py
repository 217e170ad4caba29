"""Folded graphs become .tflite files: float32, float16, dynamic-range, full-integer int8 and int16x8.

One pass over the ops serves every precision: `lowerings` says which operators an op becomes, `storage` how a
precision stores activations and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from mbn_deploy.errors import InputError
from mbn_deploy.export.file_types import InputType
from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.export.tflite.lowerings.table import LOWERINGS
from mbn_deploy.export.tflite.storage import DynamicStorage, Float16Storage, Float32Storage, Int8Storage
from mbn_deploy.graph.graph import Graph
from mbn_deploy.graph.quantized import QuantizedGraph

FloatPrecision = Literal["float32", "float16", "dynamic"]
_STORAGES: Mapping[FloatPrecision, Callable[[], Float32Storage]] = {
    "float32": Float32Storage,
    "float16": Float16Storage,
    "dynamic": DynamicStorage,
}


def write_tflite(graph: Graph, precision: FloatPrecision, *, metadata: Mapping[str, bytes] | None = None) -> bytes:
    """Write a .tflite file with float32 input and output of the folded `graph` (NHWC, static batch).

    `float16` stores weights in half precision; the interpreter dequantizes them when it opens the file. `dynamic`
    stores kernels of at least 1024 values as int8 with one scale per output channel. `metadata` goes into the
    file's metadata table.

    Raises:
        InputError: the graph has an op that is not written to TFLite.
    """
    writer = GraphWriter(graph, _STORAGES[precision]())
    source = writer.boundary(graph.input, graph.shapes[graph.input], "float32")
    writer.set_input(source, "float")
    _write_ops(writer)
    return writer.finish(source, writer.in_graph_shape(graph.output), metadata)


def write_tflite_int8(
    quantized: QuantizedGraph, *, input_dtype: InputType = "uint8", metadata: Mapping[str, bytes] | None = None
) -> bytes:
    """Write a full-integer .tflite file: every op between input and output computes in integers.

    `input_dtype` is the type of both ends. With int8 nothing stands in front of the first convolution; with uint8
    and float32 there is one QUANTIZE in front and one QUANTIZE or DEQUANTIZE at the end. Where the first op has
    activations of 16 bits, int16 is the type that needs nothing in front. An output of 16 bits stays int16 unless
    `input_dtype` is float32, since no kernel converts it to uint8.

    Raises:
        InputError: the graph has an op that is not written to TFLite, or not as integers.
    """
    graph = quantized.graph
    writer = GraphWriter(graph, Int8Storage(quantized))
    params = (quantized.int16_params if input_dtype == "int16" else quantized.activations)[graph.input]
    source = writer.boundary(graph.input, graph.shapes[graph.input], input_dtype, params.scale, params.zero_point)
    writer.set_input(source, "float" if input_dtype == "float32" else input_dtype)
    _write_ops(writer)
    return writer.finish(source, _outer_output(writer, quantized, input_dtype), metadata)


def _write_ops(writer: GraphWriter) -> None:
    for op in writer.graph.ops:
        lower = LOWERINGS.get(op.kind)
        if lower is None or (op.activation == "unit" and writer.compute_type(op) == "float"):
            raise InputError(f"layer {op.name!r}: {op.kind!r} ({op.activation}) is not written to TFLite")
        lower(writer, op)


def _outer_output(writer: GraphWriter, quantized: QuantizedGraph, dtype: InputType) -> int:
    """Return the file's output in the type `dtype`, behind one conversion where the last op gives another."""
    name = quantized.graph.output
    inner, stored_type = writer.in_graph_shape(name), writer.types[name]
    if stored_type == ("float" if dtype == "float32" else dtype) or (stored_type == "int16" and dtype != "float32"):
        return inner
    params = quantized.output_params
    outer = writer.boundary(f"{name}/{dtype}", quantized.graph.shapes[name], dtype, params.scale, params.zero_point)
    if dtype == "float32":
        writer.dequantize(inner, outer, stored_type)
    else:
        writer.quantize(inner, outer, dtype)
    return outer
