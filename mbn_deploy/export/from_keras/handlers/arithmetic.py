"""Sums, products, quotients, extremes, concatenations: layers of several tensors, and operations with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor, constant
from mbn_deploy.export.from_keras.handlers.activations import clipped
from mbn_deploy.export.from_keras.handlers.channels import joined_maps
from mbn_deploy.graph.graph import OpKind, Shape


def combine(kind: OpKind) -> Handler:
    """Return the handler of a layer that combines two or more tensors by `kind`."""

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
    """Append the layer or operation `first - second`."""
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        negative = build.affine(replace(call, name=f"{call.name}/negative"), second, -1.0, 0.0)
        return _combined(build, call, (first, negative), "add")
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


def average(build: GraphBuilder, call: Call) -> Tensor:
    """Append the layer Average."""
    total = _combined(build, replace(call, name=f"{call.name}/sum"), call.tensors, "add")
    return build.affine(call, total, 1 / len(call.tensors), 0.0)


def extreme(kind: OpKind) -> Handler:
    """Return the handler of the operation `maximum` or `minimum` on two tensors, or on a tensor and a constant."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        first, second = _operands(call)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return _combined(build, call, (first, second), kind)
        x, bounds = (first, second) if isinstance(first, Tensor) else (second, first)
        if bounds.size == 1:
            bound = float(bounds.reshape(()))
            limits = {"low": bound} if kind == "maximum" else {"high": bound}
            return clipped(build, x, call.name, **limits)
        # max(x, c) = relu(x - c) + c, and min(x, c) = c - relu(c - x)
        sign = 1.0 if kind == "maximum" else -1.0
        shifted = build.affine(replace(call, name=f"{call.name}/distance"), x, sign, -sign * bounds)
        return build.affine(call, build.elementwise("relu", f"{call.name}/relu", shifted), sign, bounds)

    return handler


def dot(build: GraphBuilder, call: Call) -> Tensor:
    """Append the layer Dot of two feature vectors: their product, added up by a dense layer of ones."""
    axes = call.operation.axes
    first, second = call.tensors
    if first.shape != second.shape or len(first.shape) != 2 or not set(np.atleast_1d(axes)) <= {1, -1}:
        raise call.refuse(f"axes {axes} of shapes {first.shape} and {second.shape}; two feature vectors are supported")
    if call.operation.normalize:
        first, second = (_unit(build, t, f"{call.name}/{place}") for t, place in ((first, "first"), (second, "second")))
    product = build.emit("multiply", f"{call.name}/product", (first, second), first.shape)
    ones = np.ones((first.shape[1], 1), np.float32)
    return build.emit("dense", call.name, (product,), (first.shape[0], 1), kernel=ones)


def _unit(build: GraphBuilder, x: Tensor, name: str) -> Tensor:
    """Append the division of a vector by its norm."""
    import keras

    return build.emit("l2_normalize", name, (x,), x.shape, epsilon=keras.config.epsilon())


def concatenate(build: GraphBuilder, call: Call) -> Tensor:
    """Append the layer or operation that joins two or more tensors along an axis."""
    tensors, rank = call.tensors, len(call.tensors[0].shape)
    given = call.args[0] if call.args else next(iter(call.kwargs.values()))
    if len(given) != len(tensors):
        raise call.refuse("it joins a tensor and a constant")
    axis = call.operation.axis % rank
    shapes = {(*t.shape[:axis], *t.shape[axis + 1 :]) for t in tensors}
    if axis == 0 or len(shapes) > 1:
        raise call.refuse(f"axis {call.operation.axis} of shapes {', '.join(str(t.shape) for t in tensors)}")
    return joined(build, tensors, axis, call.name)


def joined(build: GraphBuilder, tensors: Sequence[Tensor], axis: int, name: str) -> Tensor:
    """Append the concatenation along `axis`; channels of one picture become a linear map of them."""
    if len(tensors) == 1:
        return tensors[0]
    if axis == 3 and (found := joined_maps(build, tensors, name)) is not None:
        return found
    length = sum(t.shape[axis] for t in tensors)
    shape = (*tensors[0].shape[:axis], length, *tensors[0].shape[axis + 1 :])
    return build.emit("concat", name, tuple(tensors), shape, axis=axis)


def square(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation `x * x`."""
    x = call.one()
    return build.emit("multiply", call.name, (x, x), x.shape)


def absolute(build: GraphBuilder, call: Call) -> Tensor:
    """Append the operation |x| = max(x, -x)."""
    x = call.one()
    negative = build.affine(replace(call, name=f"{call.name}/negative"), x, -1.0, 0.0)
    return build.emit("maximum", call.name, (x, negative), x.shape)


def _operands(call: Call) -> tuple[Any, Any]:
    """Return the two operands of a binary operation: tensors or float64 constants."""
    given = (*call.args, *call.kwargs.values())
    if len(given) == 1 and isinstance(given[0], (list, tuple)):  # a layer is called with a list
        given = tuple(given[0])
    if len(given) != 2:
        raise call.refuse("it has not two operands")
    first, second = (v if isinstance(v, Tensor) else constant(v) for v in given)
    return first, second


def _combined(build: GraphBuilder, call: Call, tensors: Sequence[Tensor], kind: OpKind) -> Tensor:
    """Append a sum, product, maximum or minimum of two or more tensors, two at a time."""
    result = tensors[0]
    for at, other in enumerate(tensors[1:], 2):
        shape = _common_shape(result.shape, other.shape)
        if shape is None:
            raise call.refuse(f"shapes {result.shape} and {other.shape} do not fit together")
        # The tensor that is repeated comes second: passes take it for a gate.
        first, second = (result, other) if result.shape == shape else (other, result)
        name = call.name if at == len(tensors) else f"{call.name}/{at - 1}"
        result = build.emit(kind, name, (first, second), shape)
    return result


def _common_shape(first: Shape, second: Shape) -> Shape | None:
    """Return the shape to which both are repeated along axes of length 1, None if they do not fit."""
    fits = len(first) == len(second) and all(n == m or 1 in (n, m) for n, m in zip(first, second, strict=True))
    return tuple(max(n, m) for n, m in zip(first, second, strict=True)) if fits else None
