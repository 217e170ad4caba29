"""Layers that make pictures and feature maps larger or smaller."""

from __future__ import annotations

from typing import Any

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, pair
from mbn_deploy.export.from_keras.handlers.slices import take_ranges

_INTERPOLATIONS = ("bilinear", "nearest")


def resizing(build: GraphBuilder, call: Call) -> Tensor:
    """Append Resizing, with or without keeping the aspect ratio."""
    layer = call.operation
    return _resized(build, call, (layer.height, layer.width))


def resize(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.image.resize`."""
    return _resized(build, call, pair(tuple(call.operation.size)))


def center_crop(build: GraphBuilder, call: Call) -> Tensor:
    """Append CenterCrop; smaller pictures are resized, as Keras does."""
    x, layer = call.image(), call.operation
    wanted = (int(layer.height), int(layer.width))
    spare = [n - m for n, m in zip(x.shape[1:3], wanted, strict=True)]
    if min(spare) < 0:
        boxed = _crop_to_ratio(build, x, wanted, f"{call.name}/crop")
        return _resize_op(build, boxed, wanted, "bilinear", call.name)
    ranges = [(n // 2, 1, m) for n, m in zip(spare, wanted, strict=True)]
    return take_ranges(build, x, [*ranges, (0, 1, x.shape[3])], call.name)


def random_crop(_: GraphBuilder, call: Call) -> Tensor:
    """Pass on the input of a RandomCrop that leaves the size as it is.

    Others are refused: outside training Keras 2 resizes to their size and Keras 3 leaves the picture as it is.
    """
    x, layer = call.image(), call.operation
    if (layer.height, layer.width) != x.shape[1:3]:
        raise call.refuse(
            f"it crops {x.shape[1]}x{x.shape[2]} to {layer.height}x{layer.width} in training only, and versions of "
            "Keras differ in what follows; let the model begin behind it"
        )
    return x


def upsampling(build: GraphBuilder, call: Call) -> Tensor:
    """Append UpSampling2D."""
    x, (vertical, horizontal) = call.image(), pair(call.operation.size)
    wanted = (x.shape[1] * vertical, x.shape[2] * horizontal)
    return _resize_op(build, x, wanted, _interpolation(call), call.name)


def _interpolation(call: Call) -> str:
    name = str(call.operation.interpolation)
    if name not in _INTERPOLATIONS:
        raise call.refuse(f"interpolation {name!r}; {' and '.join(_INTERPOLATIONS)} are supported")
    return name


def _resized(build: GraphBuilder, call: Call, size: tuple[int, int]) -> Tensor:
    x, options = call.image(), call.operation
    if size == x.shape[1:3]:
        return x
    if getattr(options, "antialias", False):
        raise call.refuse("antialias=True has no counterpart in the files; resize without it")
    if getattr(options, "crop_to_aspect_ratio", False):
        x = _crop_to_ratio(build, x, size, f"{call.name}/crop")
    if getattr(options, "pad_to_aspect_ratio", False):
        x = _pad_to_ratio(build, call, x, size)
    return _resize_op(build, x, size, _interpolation(call), call.name)


def _resize_op(build: GraphBuilder, x: Tensor, size: tuple[int, int], interpolation: Any, name: str) -> Tensor:
    if x.shape[1:3] == size:
        return x
    return build.emit("resize", name, (x,), (x.shape[0], *size, x.shape[3]), interpolation=interpolation)


def _crop_to_ratio(build: GraphBuilder, x: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """Append the largest part in the middle of `x` that has the aspect ratio of `size`, cut as Keras does."""
    _, height, width, channels = x.shape
    kept = (max(min(height, width * size[0] // size[1]), 1), max(min(width, height * size[1] // size[0]), 1))
    ranges = [((n - m) // 2, 1, m) for n, m in zip((height, width), kept, strict=True)]
    return take_ranges(build, x, [*ranges, (0, 1, channels)], name)


def _pad_to_ratio(build: GraphBuilder, call: Call, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Append `x` with zeros around it, so that it has the aspect ratio of `size`.

    Keras pads both sides alike, so a row or column may be missing for the exact ratio.
    """
    if call.operation.fill_value != 0 or call.operation.fill_mode != "constant":
        raise call.refuse("it pads with something else than zeros")
    batch, height, width, channels = x.shape
    top = (max(height, width * size[0] // size[1]) - height) // 2
    left = (max(width, height * size[1] // size[0]) - width) // 2
    if not top + left:
        return x
    shape = (batch, height + 2 * top, width + 2 * left, channels)
    return build.emit("pad", f"{call.name}/pad", (x,), shape, pads=(top, top, left, left))
