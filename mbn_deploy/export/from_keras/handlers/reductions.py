"""Means, sums and maxima over axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor
from mbn_deploy.export.from_keras.handlers.channels import map_channels
from mbn_deploy.graph.graph import OpKind, Shape

_GLOBAL: Mapping[str, OpKind] = {"mean": "global_average_pool", "max": "global_max_pool"}


def positive_axes(call: Call, axis: Any, rank: int) -> tuple[int, ...]:
    """Return axes as numbers from 0 on, in order; None means all axes, which includes the batch and is refused."""
    given = range(rank) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    axes = tuple(sorted({int(one) % rank for one in given}))
    if 0 in axes:
        raise call.refuse("it works on the batch axis, so pictures would change each other's result")
    return axes


def reduction(kind: str) -> Handler:
    """Return the handler of a `mean`, `sum`, `max` or `min` over any axes but the batch."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        operation, x = call.operation, call.one()
        if getattr(operation, "initial", None) is not None or call.kwargs.get("weights") is not None:
            raise call.refuse("it is called with an initial value or with weights")
        axes = positive_axes(call, operation.axis, len(x.shape))
        return reduce_axes(build, call, x, kind, axes, keepdims=bool(getattr(operation, "keepdims", False)))

    return handler


def reduce_axes(
    build: GraphBuilder, call: Call, x: Tensor, kind: str, axes: Sequence[int], *, keepdims: bool
) -> Tensor:
    """Append the reduction of `x` over `axes`, numbers from 1 on; the result has the name of the call."""
    if kind == "min":
        turned = _scaled(build, x, -1.0, f"{call.name}/negative")
        least = reduce_axes(build, call, turned, "max", axes, keepdims=keepdims)
        return _scaled(build, least, -1.0, f"{call.name}/min")
    if kind == "sum":
        count = float(np.prod([x.shape[axis] for axis in axes]))
        return _scaled(build, reduce_axes(build, call, x, "mean", axes, keepdims=keepdims), count, f"{call.name}/sum")
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    result = shape if keepdims else tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    if len(x.shape) == 4 and tuple(axes) == (1, 2):
        return build.emit(_GLOBAL[kind], call.name, (x,), result, keepdims=keepdims)
    image, inner = _as_image(build, call, x, axes)
    spatial = [axis for axis in inner if axis < 3]
    if spatial:
        image = _pooled(build, image, kind, spatial, f"{call.name}/{kind}")
    if 3 in inner:
        image = _over_channels(build, image, kind, f"{call.name}/channels")
    return build.reshaped(call.name, image, result)


def _scaled(build: GraphBuilder, x: Tensor, factor: float, name: str) -> Tensor:
    channels = x.shape[-1]
    return build.emit("affine", name, (x,), x.shape, scale=np.full(channels, factor), offset=np.zeros(channels))


def _as_image(build: GraphBuilder, call: Call, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Return `x` as (N, H, W, C), and the axes there: a vector is (N, 1, 1, C), a sequence (N, T, 1, C)."""
    if len(x.shape) == 4:
        return x, list(axes)
    shapes: dict[int, tuple[Shape, dict[int, int]]] = {
        2: ((x.shape[0], 1, 1, x.shape[-1]), {1: 3}),
        3: ((x.shape[0], x.shape[1], 1, x.shape[-1]), {1: 1, 2: 3}),
    }
    if len(x.shape) not in shapes:
        raise call.refuse(f"its input has shape {x.shape}; 2 to 4 axes are supported")
    shape, moved = shapes[len(x.shape)]
    return build.reshaped(f"{call.name}/image", x, shape), [moved[axis] for axis in axes]


def _pooled(build: GraphBuilder, x: Tensor, kind: str, axes: Sequence[int], name: str) -> Tensor:
    """Append the reduction of an image over height, width or both, which keep length 1."""
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    if len(axes) == 2:
        return build.emit(_GLOBAL[kind], name, (x,), shape, keepdims=True)
    window = (x.shape[1], 1) if axes[0] == 1 else (1, x.shape[2])
    return build.emit("average_pool" if kind == "mean" else "max_pool", name, (x,), shape, window=window)


def _over_channels(build: GraphBuilder, x: Tensor, kind: str, name: str) -> Tensor:
    channels = x.shape[3]
    if kind == "mean":
        return map_channels(build, x, np.full((channels, 1), 1 / channels), name)
    return build.emit("channel_max", name, (x,), (*x.shape[:3], 1))
