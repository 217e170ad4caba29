"""Ops on values one by one: sums, products and activations that stand alone."""

from __future__ import annotations

from collections.abc import Callable

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.graph_writer import FUSED_ACTIVATIONS, GraphWriter
from mbn_deploy.export.tflite.storage import float_constant
from mbn_deploy.graph.graph import Op


def lower_add(writer: GraphWriter, op: Op) -> None:
    """Write the ADD of two tensors."""
    _add(writer, op, [writer.shaped_source(op, 0), writer.shaped_source(op, 1)])


def lower_add_constant(writer: GraphWriter, op: Op) -> None:
    """Write the ADD of a tensor and a constant: one number, or one per channel."""
    _add(writer, op, [writer.source(op), writer.storage.offset(writer.build, op, f"{op.output}/constant")])


def _add(writer: GraphWriter, op: Op, sources: list[int]) -> None:
    # ADD of int16 takes all scales for powers of two unless it is told otherwise.
    options = {"potScaleInt16": False} if writer.compute_type(op) == "int16" else {}
    writer.emit(op, "ADD", sources, writer.result(op), fusedActivationFunction=writer.fused_activation(op), **options)


def lower_multiply(writer: GraphWriter, op: Op) -> None:
    """Write the MUL of two tensors."""
    sources = [writer.shaped_source(op, 0), writer.shaped_source(op, 1)]
    writer.emit(op, "MUL", sources, writer.result(op), fusedActivationFunction=writer.fused_activation(op))


def lower_comparison(code: str) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to MAXIMUM or MINIMUM of two tensors."""

    def lower(writer: GraphWriter, op: Op) -> None:
        sources = [writer.source_as_result(op, 0), writer.source_as_result(op, 1)]
        writer.emit(op, code, sources, writer.result(op))

    return lower


def lower_concat(writer: GraphWriter, op: Op) -> None:
    """Write CONCATENATION; the file keeps the features of (N, C) at axis 3."""
    sources = [writer.source_as_result(op, at) for at in range(len(op.inputs))]
    axis = op.axis + len(writer.shape_in_file(op.output)) - len(writer.graph.shapes[op.output])
    writer.emit(op, "CONCATENATION", sources, writer.result(op), axis=axis, fusedActivationFunction=0)


def lower_unary(code: str) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to an operator of one tensor without options."""

    def lower(writer: GraphWriter, op: Op) -> None:
        writer.emit(op, code, [writer.source(op)], writer.result(op))

    return lower


def lower_hard_sigmoid(writer: GraphWriter, op: Op) -> None:
    """Write relu6(x + 3) / 6: TFLite has no operator for it, and an integer one needs a lowering of its own."""
    if writer.compute_type(op) != "float":
        raise InputError(f"layer {op.name!r}: a hard sigmoid must be lowered before integers are written")
    inner = writer.build.tensor(f"{op.output}/relu6", writer.shapes[op.inputs[0]], "float32")
    three = float_constant(writer.build, f"{op.output}/three", 3.0)
    sixth = float_constant(writer.build, f"{op.output}/sixth", 1 / 6)
    source = writer.source(op)
    writer.emit(op, "ADD", [source, three], inner, fusedActivationFunction=FUSED_ACTIVATIONS["relu6"])
    writer.emit(op, "MUL", [inner, sixth], writer.result(op))
