"""Functions of one tensor: TFLite's own operators, and those that are composed of several."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mbn_deploy.export.tflite.builder import schema
from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.export.tflite.storage import float_constant
from mbn_deploy.graph.graph import Op


def lower_clip(writer: GraphWriter, op: Op) -> None:
    """Write MAXIMUM and MINIMUM; integers of 8 bits saturate where they are quantized by the output's parameters."""
    source = writer.source_as_result(op)
    if writer.compute_type(op) == "int8":
        _record(writer, op, source)
        return
    low, high = not math.isinf(op.low), not math.isinf(op.high)
    if high:
        bound = writer.storage.number(writer.build, op, f"{op.output}/high", op.high)
        source = _step(writer, op, "MINIMUM", [source, bound], last=not low)
    if low and op.low == 0:
        _step(writer, op, "RELU", [source], last=True)
    elif low:
        bound = writer.storage.number(writer.build, op, f"{op.output}/low", op.low)
        _step(writer, op, "MAXIMUM", [source, bound], last=True)


def _record(writer: GraphWriter, op: Op, index: int) -> None:
    writer.record(op.output, index, writer.compute_type(op), writer.shape_in_file(op.output))


def _step(writer: GraphWriter, op: Op, code: str, inputs: list[int], *, last: bool, **options: Any) -> int:
    """Append an operator of `op`; the last one writes the op's output."""
    shape = writer.shape_in_file(op.output)
    result = writer.result(op) if last else writer.tensor(op, f"{op.output}/{code.lower()}", shape)
    writer.emit(op, code, inputs, result, **options)
    return result


def lower_leaky_relu(writer: GraphWriter, op: Op) -> None:
    """Write LEAKY_RELU."""
    writer.emit(op, "LEAKY_RELU", [writer.source(op)], writer.result(op), alpha=float(op.slopes().flat[0]))


def lower_prelu(writer: GraphWriter, op: Op) -> None:
    """Write PRELU."""
    slopes = writer.storage.slopes(writer.build, op, f"{op.output}/slopes")
    writer.emit(op, "PRELU", [writer.source(op), slopes], writer.result(op))


def lower_gelu(*, approximate: bool) -> Callable[[GraphWriter, Op], None]:
    """Return the lowering to GELU, exact or by tanh."""

    def lower(writer: GraphWriter, op: Op) -> None:
        writer.emit(op, "GELU", [writer.source(op)], writer.result(op), approximate=approximate)

    return lower


class _Formula:
    """A function written as several float operators; each method appends one and returns its result."""

    def __init__(self, writer: GraphWriter, op: Op) -> None:
        self._writer, self._op = writer, op
        self._shape = writer.shape_in_file(op.output)
        self._count = 0
        self.x = writer.source(op)

    def __call__(self, code: str, *inputs: float, last: bool = False, **options: Any) -> int:
        self._count += 1
        name = f"{self._op.output}/{self._count}"
        operands = [self._operand(f"{name}/{i}", value) for i, value in enumerate(inputs)]
        writer = self._writer
        result = writer.result(self._op) if last else writer.build.tensor(name, self._shape, "float32")
        writer.emit(self._op, code, operands, result, **options)
        return result

    def _operand(self, name: str, value: float) -> int:
        """Return a tensor's index as it is, and the index of a new constant for a number (a float)."""
        return float_constant(self._writer.build, name, value) if isinstance(value, float) else value


def _softplus(formula: _Formula, *, last: bool = False) -> int:
    """log(1 + e^x) = relu(x) + log(1 + e^-|x|), which does not overflow."""
    decay = formula("EXP", formula("NEG", formula("ABS", formula.x)))
    return formula("ADD", formula("RELU", formula.x), formula("LOG", formula("ADD", decay, 1.0)), last=last)


def lower_softplus(writer: GraphWriter, op: Op) -> None:
    """Write relu(x) + log(1 + e^-|x|)."""
    _softplus(_Formula(writer, op), last=True)


def lower_mish(writer: GraphWriter, op: Op) -> None:
    """Write x * tanh(softplus(x))."""
    formula = _Formula(writer, op)
    formula("MUL", formula.x, formula("TANH", _softplus(formula)), last=True)


def lower_softsign(writer: GraphWriter, op: Op) -> None:
    """Write x / (1 + |x|)."""
    formula = _Formula(writer, op)
    formula("DIV", formula.x, formula("ADD", formula("ABS", formula.x), 1.0), last=True)


def lower_threshold(writer: GraphWriter, op: Op) -> None:
    """Write x * (x > low)."""
    formula = _Formula(writer, op)
    above = writer.build.tensor(f"{op.output}/above", writer.shape_in_file(op.output), "bool")
    bound = float_constant(writer.build, f"{op.output}/bound", op.low)
    writer.emit(op, "GREATER", [formula.x, bound], above)
    kinds = {"inDataType": schema().TensorType.BOOL, "outDataType": schema().TensorType.FLOAT32}
    formula("MUL", formula.x, formula("CAST", above, **kinds), last=True)
