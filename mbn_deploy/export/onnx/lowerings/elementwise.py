"""Ops on values one by one: sums, products and activations that stand alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mbn_deploy.export.onnx.graph_writer import OnnxGraphWriter
from mbn_deploy.graph.graph import Op

_TANH_CUBE, _TANH_GAIN = 0.044715, math.sqrt(2 / math.pi)  # of GELU's approximation (arXiv 1606.08415, section 2)


def lower_to(op_type: str, **attributes: Any) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to one node that reads the op's inputs."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        writer.emit(op_type, op, writer.sources(op), **attributes)

    return lower


def lower_with_offset(op_type: str) -> Callable[[OnnxGraphWriter, Op], None]:
    """Return the lowering to one node that reads the op's input and its offset."""

    def lower(writer: OnnxGraphWriter, op: Op) -> None:
        writer.emit(op_type, op, [*writer.sources(op), writer.offset(op)])

    return lower


def lower_relu(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Relu or Clip."""
    writer.activation(op.kind, writer.sources(op)[0], op, op.name)


def lower_concat(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Concat."""
    writer.emit("Concat", op, writer.sources(op), axis=writer.axis(op))


def lower_clip(writer: OnnxGraphWriter, op: Op) -> None:
    """Write Clip; a bound that is infinite is left out."""
    bounds = ["" if math.isinf(bound) else writer.scalar(bound) for bound in (op.low, op.high)]
    writer.emit("Clip", op, [*writer.sources(op), *(bounds if bounds[1] else bounds[:1])])


def lower_leaky_relu(writer: OnnxGraphWriter, op: Op) -> None:
    """Write LeakyRelu."""
    writer.emit("LeakyRelu", op, writer.sources(op), alpha=float(op.slopes().flat[0]))


def lower_prelu(writer: OnnxGraphWriter, op: Op) -> None:
    """Write PRelu."""
    slopes = writer.build.constant(f"{op.output}/slopes", writer.slopes(op).astype(np.float32))
    writer.emit("PRelu", op, [*writer.sources(op), slopes])


def lower_threshold(writer: OnnxGraphWriter, op: Op) -> None:
    """Write ThresholdedRelu."""
    writer.emit("ThresholdedRelu", op, writer.sources(op), alpha=op.low)


def lower_gelu(writer: OnnxGraphWriter, op: Op) -> None:
    """Write x * (0.5 + 0.5 * erf(x / sqrt(2))), of which ONNX Runtime makes one operation."""
    x = writer.sources(op)[0]
    scaled = _node(writer, op, "Div", [x, writer.scalar(math.sqrt(2))], "scaled")
    erf = _node(writer, op, "Erf", [scaled], "erf")
    _gate(writer, op, x, erf)


def lower_gelu_tanh(writer: OnnxGraphWriter, op: Op) -> None:
    """Write x * (0.5 + 0.5 * tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    x = writer.sources(op)[0]
    square = _node(writer, op, "Mul", [x, x], "square")
    small = _node(writer, op, "Mul", [square, writer.scalar(_TANH_GAIN * _TANH_CUBE)], "small")
    gain = _node(writer, op, "Add", [small, writer.scalar(_TANH_GAIN)], "gain")
    _gate(writer, op, x, _node(writer, op, "Tanh", [_node(writer, op, "Mul", [x, gain], "inner")], "tanh"))


def _gate(writer: OnnxGraphWriter, op: Op, x: str, sign: str) -> None:
    """Append x * (1 + sign) / 2."""
    raised = _node(writer, op, "Add", [sign, writer.scalar(1.0)], "raised")
    product = _node(writer, op, "Mul", [x, raised], "product")
    writer.emit("Mul", op, [product, writer.scalar(0.5)])


def lower_mish(writer: OnnxGraphWriter, op: Op) -> None:
    """Write x * tanh(softplus(x)): the operator Mish came with opset 18."""
    x = writer.sources(op)[0]
    inner = _node(writer, op, "Softplus", [x], "softplus")
    writer.emit("Mul", op, [x, _node(writer, op, "Tanh", [inner], "tanh")])


def _node(writer: OnnxGraphWriter, op: Op, op_type: str, inputs: list[str], part: str) -> str:
    """Append one of the float nodes that `op` consists of."""
    return writer.build.node(op_type, f"{op.name}/{part}", inputs, f"{op.output}/{part}")
