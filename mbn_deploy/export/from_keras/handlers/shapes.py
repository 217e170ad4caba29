"""Layers that move values or change shapes."""

from __future__ import annotations

import math

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, pair


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
    x, target = call.one(), list(call.operation.target_shape)
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        target[target.index(-1)] = math.prod(x.shape[1:]) // known
    if math.prod(target) != math.prod(x.shape[1:]):
        raise call.refuse(f"its target {tuple(target)} has another number of values than its input {x.shape[1:]}")
    return build.emit("reshape", call.name, (x,), (x.shape[0], *target))


def resize_to_same_size(_: GraphBuilder, call: Call) -> Tensor:
    """Pass on the input of a crop or resize that leaves the size as it is; refuse others."""
    x, layer = call.image(), call.operation
    if (layer.height, layer.width) != x.shape[1:3]:
        raise call.refuse(
            f"it makes {layer.height}x{layer.width} out of {x.shape[1]}x{x.shape[2]} inside the model; the runtime "
            "resizes pictures itself, so let the model begin at its own size and export that"
        )
    return x
