"""Folded graphs become float32 .onnx files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.graph_writer import OnnxGraphWriter, input_shape, nchw
from mbn_deploy.export.onnx.lowerings.table import FLOAT_LOWERINGS
from mbn_deploy.graph.graph import Graph
from mbn_deploy.manifest import Layout


def write_onnx(
    graph: Graph,
    *,
    metadata: Mapping[str, str] | None = None,
    layout: Layout = "nchw",
    extra_outputs: Sequence[str] = (),
) -> bytes:
    """Write an .onnx file with float32 input and output of the folded `graph` (static batch).

    The input is called `graph.input` and is (N, C, H, W), or (N, H, W, C) with `layout="nhwc"` (one Transpose); the
    output is called `graph.output`. `extra_outputs` are further tensors of the graph that become outputs, those of
    rank 4 as (N, C, H, W). `metadata` becomes the file's metadata_props.

    Raises:
        InputError: the graph has an op that is not written to ONNX, or onnx' checker refuses the file.
    """
    outputs = (graph.output, *(name for name in extra_outputs if name != graph.output))
    writer = OnnxGraphWriter(graph, frozenset(outputs))
    nhwc = layout == "nhwc"
    writer.values[graph.input] = writer.to_nchw(graph.input, f"{graph.input}/nchw") if nhwc else graph.input
    for op in graph.ops:
        lower = FLOAT_LOWERINGS.get(op.kind)
        if lower is None:
            raise InputError(f"layer {op.name!r}: {op.kind!r} is not written to ONNX; fold the graph first")
        lower(writer, op)
    source = (graph.input, "float32", input_shape(graph, layout))
    results = [(name, "float32", nchw(graph.shapes[name])) for name in outputs]
    return writer.build.finish(source, results, metadata or {})
