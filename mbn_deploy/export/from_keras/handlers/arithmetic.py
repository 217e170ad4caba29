"""Sums, products and quotients: layers of several tensors, and operations on a tensor and a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor, constant
from mbn_deploy.graph.graph import OpKind, Shape


def combine(kind: OpKind) -> Handler:
    """Return the handler of a layer that adds or multiplies two or more tensors."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        return _combined(build, call, call.tensors, kind)

    return handler


def add(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation `first + second`."""
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _combined(build, call, (first, second), "add")
    return build.affine(call, call.one(), 1.0, second if isinstance(first, Tensor) else first)


def multiply(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation `first * second`."""
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _combined(build, call, (first, second), "multiply")
    return build.affine(call, call.one(), second if isinstance(first, Tensor) else first, 0.0)


def subtract(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation `first - second`; one of them is a constant."""
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        raise call.refuse("one tensor is subtracted from another")
    if isinstance(first, Tensor):
        return build.affine(call, first, 1.0, -second)
    return build.affine(call, second, -1.0, first)


def divide(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation `first / second`; the second one is a constant."""
    first, second = _operands(call)
    if not isinstance(first, Tensor) or isinstance(second, Tensor):
        raise call.refuse("something is divided by a tensor")
    if not second.all():
        raise call.refuse("division by zero")
    return build.affine(call, first, 1.0 / second, 0.0)


def negative(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation `-x`."""
    return build.affine(call, call.one(), -1.0, 0.0)


def _operands(call: Call) -> tuple[Any, Any]:
    """Return the two operands of a binary operation: tensors or float64 constants."""
    given = (*call.args, *call.kwargs.values())
    if len(given) != 2:
        raise call.refuse("it has not two operands")
    first, second = (v if isinstance(v, Tensor) else constant(v) for v in given)
    return first, second


def _combined(build: GraphBuilder, call: Call, tensors: Sequence[Tensor], kind: OpKind) -> Tensor:
    """Append the sum or product of two or more tensors, two at a time."""
    result = tensors[0]
    for at, other in enumerate(tensors[1:], 2):
        first, second = (result, other) if _area(result) >= _area(other) else (other, result)
        if not _fits(first.shape, second.shape, gate=kind == "multiply"):
            raise call.refuse(f"shapes {result.shape} and {other.shape} are not the same")
        name = call.name if at == len(tensors) else f"{call.name}/{at - 1}"
        result = build.emit(kind, name, (first, second), first.shape)
    return result


def _area(x: Tensor) -> int:
    return x.shape[1] * x.shape[2] if len(x.shape) == 4 else 1


def _fits(first: Shape, second: Shape, *, gate: bool) -> bool:
    """Tell whether the shapes are equal or, where a `gate` is allowed, the second has one value per channel."""
    return first == second or (gate and len(first) == 4 and second == (first[0], 1, 1, first[3]))
