"""Ops that slide a window: convolutions, dense layers (as 1x1 convolutions) and pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.export.tflite.lowerings.shapes import write_pad
from mbn_deploy.export.tflite.storage import kernel_layout
from mbn_deploy.graph.graph import Op, same_pads

_SAME, _VALID = 0, 1  # Padding of the schema


def lower_conv(writer: GraphWriter, op: Op) -> None:
    """Write CONV_2D, also for a dense layer."""
    _convolution(writer, op, "CONV_2D", channel_axis=0)


def lower_depthwise(writer: GraphWriter, op: Op) -> None:
    """Write DEPTHWISE_CONV_2D."""
    _convolution(writer, op, "DEPTHWISE_CONV_2D", channel_axis=3, depthMultiplier=op.weights()[0].shape[3])


def _convolution(writer: GraphWriter, op: Op, code: str, channel_axis: int, **options: Any) -> None:
    kernel = kernel_layout(op, op.weights()[0])
    source, padding = _padded_source(writer, op, (kernel.shape[1], kernel.shape[2]))
    weights, bias, hybrid = writer.storage.weights(writer.build, op, kernel, channel_axis)
    if code == "CONV_2D" and writer.compute_type(op) == "int16":
        # Interpreters since 2.15 read here in which type a convolution of int16 adds up.
        options["quantizedBiasType"] = writer.build.type(bias)
    writer.emit(
        op,
        code,
        [source, weights, bias],
        writer.result(op),
        hybrid=hybrid,
        padding=padding,
        fusedActivationFunction=writer.fused_activation(op),
        dilationHFactor=op.dilation[0],
        dilationWFactor=op.dilation[1],
        **_strides(op),
        **options,
    )


def lower_pool(code: str) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to the pooling operator `code`."""

    def lower(writer: GraphWriter, op: Op) -> None:
        source, padding = _padded_source(writer, op, op.window)
        height, width = op.window
        options = {"padding": padding, "filterHeight": height, "filterWidth": width, **_strides(op)}
        writer.emit(op, code, [source], writer.result(op), **options)

    return lower


def _padded_source(writer: GraphWriter, op: Op, window: tuple[int, int]) -> tuple[int, int]:
    """Return the op's input and its padding mode.

    What is neither SAME nor VALID gets a PAD of its own, which XNNPACK merges into a convolution.
    """
    source, shape = writer.source(op), writer.shapes[op.inputs[0]]
    if not any(op.pads):
        return source, _VALID
    same = tuple(pad for i in (0, 1) for pad in same_pads(shape[1 + i], window[i], op.stride[i], op.dilation[i]))
    if op.pads == same:
        return source, _SAME
    if op.kind in ("average_pool", "max_pool"):
        raise InputError(f"layer {op.name!r}: TFLite pools with 'same' or 'valid' padding only, not {op.pads}")
    return write_pad(writer, op, source, f"{op.output}/padded"), _VALID


def _strides(op: Op) -> dict[str, Any]:
    return {"strideH": op.stride[0], "strideW": op.stride[1]}
