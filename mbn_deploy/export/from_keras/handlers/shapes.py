"""Layers that move values or change shapes."""

from __future__ import annotations

import math

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, pair
from mbn_deploy.export.from_keras.handlers.reductions import positive_axes
from mbn_deploy.export.from_keras.handlers.slices import reshaped


def zero_padding(build: GraphBuilder, call: Call) -> Tensor:
    """Append ZeroPadding2D."""
    x = call.image()
    (top, bottom), (left, right) = (pair(side) for side in call.operation.padding)
    batch, height, width, channels = x.shape
    shape = (batch, height + top + bottom, width + left + right, channels)
    return build.emit("pad", call.name, (x,), shape, pads=(top, bottom, left, right))


def flatten(build: GraphBuilder, call: Call) -> Tensor:
    """Append Flatten."""
    x = call.one()
    return build.emit("reshape", call.name, (x,), (x.shape[0], math.prod(x.shape[1:])))


def reshape(build: GraphBuilder, call: Call) -> Tensor:
    """Append Reshape; its target may leave one axis open."""
    return _reshaped(build, call, call.one(), list(call.operation.target_shape))


def reshape_all(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.reshape`, whose target includes the batch."""
    x, target = call.one(), list(call.operation.newshape)
    if not target or target[0] not in (-1, None, x.shape[0]):
        raise call.refuse(f"its target {tuple(target)} changes the batch")
    return _reshaped(build, call, x, target[1:])


def _reshaped(build: GraphBuilder, call: Call, x: Tensor, target: list[int]) -> Tensor:
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        target[target.index(-1)] = math.prod(x.shape[1:]) // max(known, 1)
    if math.prod(target) != math.prod(x.shape[1:]):
        raise call.refuse(f"its target {tuple(target)} has another number of values than its input {x.shape[1:]}")
    return build.emit("reshape", call.name, (x,), (x.shape[0], *target))


def squeeze(build: GraphBuilder, call: Call) -> Tensor:
    """Append `squeeze` of axes of length 1."""
    x, given = call.one(), call.operation.axis
    alone = tuple(axis for axis, n in enumerate(x.shape) if axis and n == 1)
    axes = alone if given is None else positive_axes(call, given, len(x.shape))
    if not set(axes) <= set(alone):
        raise call.refuse(f"axes {axes} of the shape {x.shape} have not all length 1")
    return reshaped(build, call.name, x, tuple(n for axis, n in enumerate(x.shape) if axis not in axes))


def expand(build: GraphBuilder, call: Call) -> Tensor:
    """Append `expand_dims`."""
    x, given = call.one(), call.operation.axis
    axes = given if isinstance(given, (list, tuple)) else (given,)
    rank = len(x.shape) + len(axes)
    new = positive_axes(call, axes, rank)
    sizes = iter(x.shape)
    return reshaped(build, call.name, x, tuple(1 if axis in new else next(sizes) for axis in range(rank)))


def permute(build: GraphBuilder, call: Call) -> Tensor:
    """Append Permute, whose axes count from 1 and leave out the batch."""
    return _transposed(build, call, (0, *(int(axis) for axis in call.operation.dims)))


def transpose(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.transpose`."""
    rank, axes = len(call.one().shape), call.operation.axes
    return _transposed(build, call, tuple(range(rank))[::-1] if axes is None else tuple(int(a) % rank for a in axes))


def swap_axes(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.swapaxes`."""
    order = list(range(len(call.one().shape)))
    first, second = call.operation.axis1, call.operation.axis2
    order[first], order[second] = order[second], order[first]
    return _transposed(build, call, tuple(order))


def move_axis(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.moveaxis`."""
    rank, operation = len(call.one().shape), call.operation
    source, target = (
        [int(a) % rank for a in (given if isinstance(given, (list, tuple)) else (given,))]
        for given in (operation.source, operation.destination)
    )
    order = [axis for axis in range(rank) if axis not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    return _transposed(build, call, tuple(order))


def _transposed(build: GraphBuilder, call: Call, order: tuple[int, ...]) -> Tensor:
    x = call.one()
    if order[0] != 0:
        raise call.refuse("it moves the batch axis")
    if order == tuple(range(len(x.shape))):
        return x
    return build.emit("transpose", call.name, (x,), tuple(x.shape[axis] for axis in order), permutation=order)


def pad(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.pad` of an image with zeros."""
    x, amounts = call.image(), [pair(side) for side in call.operation.pad_width]
    value = call.kwargs.get("constant_values")
    if call.operation.mode != "constant" or value or len(amounts) != 4 or amounts[0] != (0, 0) or amounts[3] != (0, 0):
        raise call.refuse("only height and width can be padded, with zeros")
    (top, bottom), (left, right) = amounts[1:3]
    batch, height, width, channels = x.shape
    shape = (batch, height + top + bottom, width + left + right, channels)
    return build.emit("pad", call.name, (x,), shape, pads=(top, bottom, left, right))


def cast(_: GraphBuilder, call: Call) -> Tensor:
    """Pass on the input of a cast to floating point; one to integers would cut off fractions."""
    if call.gives_integers:
        wanted = getattr(call.operation, "dtype", None)
        raise call.refuse(f"values are cast to {wanted} inside the model; only floating point is supported there")
    return call.one()
