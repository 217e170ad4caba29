"""The part of an image that a model's input shows, for each way to resize, and how it is sampled.

A plan is arithmetic on sizes: nothing is decoded here. The packages for Android and iOS compute the same plans, and
their tests compare them with these. The ways that bear a library's name follow its arithmetic, quirks included, so
that the pixels are those of the training:

- `keras`: `keras.utils.image_dataset_from_directory` and `tf.image.resize`.
- `keras-crop`, `keras-pad`: the same with `crop_to_aspect_ratio` (`keras.preprocessing.image.smart_resize`) and
  `pad_to_aspect_ratio` (`tf.image.resize_with_pad`).
- `keras-nearest`: `keras.utils.load_img` and `ImageDataGenerator.flow_from_directory`.
- `torchvision`: `torchvision.transforms.Resize` and `CenterCrop` on PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mbn_deploy.manifest import Preprocess, Resize

# A JPEG is decoded smaller (1/2 or 1/4, in the DCT domain) while at least this many of its pixels are left for each
# output pixel, along both axes. On photographs, 5 move a pixel by 0.2 levels in the mean and 0.4 % of them by more than
# one; 2, which the sampling theorem asks for, move 20 % by more than one, since the triangle of the resize that follows
# is wider than what the decoder cuts off. Inputs with a side below `DECODED_IN_FULL` have so few pixels that answers
# depend on single levels.
REDUCTION_GAP = 5.0
REDUCTIONS = (4, 2)
DECODED_IN_FULL = 64

Size = tuple[int, int]  # (width, height)
Box = tuple[float, float, float, float]  # (left, top, right, bottom)
Sampler = Literal["antialiased", "bilinear", "nearest"]

# EXIF orientations (EXIF 2.3, section 4.6.4) whose stored image has the sides swapped, or columns or rows reversed.
SWAPPED = frozenset({5, 6, 7, 8})
COLUMNS_REVERSED = frozenset({2, 3, 7, 8})
ROWS_REVERSED = frozenset({3, 4, 6, 7})


@dataclass(frozen=True)
class ResizePlan:
    """A box of an image (left, top, right, bottom) and the size (width, height) that it is resized to.

    An `inner` size below the model's input is placed on black, with its left and top edge at `offset`.
    """

    box: Box
    inner: Size
    offset: Size = (0, 0)


def plan_resize(size: Size, target: Size, preprocess: Preprocess) -> ResizePlan:
    """Return the plan for an upright image of `size` and a model input of `target`, both (width, height)."""
    return _WAYS[preprocess.resize].plan(size, target, preprocess.crop_fraction)


def choose_sampler(preprocess: Preprocess) -> Sampler:
    """Return how pixels are computed: with Pillow's antialiasing filters, bilinear without antialias, or picked."""
    if preprocess.filter == "nearest":
        return "nearest"
    return _WAYS[preprocess.resize].sampler


def as_training_loader(preprocess: Preprocess) -> bool:
    """Return whether the way to resize is that of a training library, whose pixels it must give.

    Such loaders drop transparency, and their JPEGs are decoded in full.
    """
    return _WAYS[preprocess.resize].library


def jpeg_reduction(plan: ResizePlan, preprocess: Preprocess) -> int:
    """Return how many times smaller a JPEG may be decoded for a plan: 1, 2 or 4; see `REDUCTION_GAP`."""
    if as_training_loader(preprocess) or choose_sampler(preprocess) != "antialiased":
        return 1
    if min(plan.inner) < DECODED_IN_FULL:
        return 1
    left, top, right, bottom = plan.box
    gap = min((right - left) / plan.inner[0], (bottom - top) / plan.inner[1])
    return next((factor for factor in REDUCTIONS if gap >= REDUCTION_GAP * factor), 1)


def swap_sides(size: Size, orientation: int) -> Size:
    """Return the upright (width, height) of a stored size with this EXIF orientation, or the reverse."""
    return (size[1], size[0]) if orientation in SWAPPED else size


def stored_box(box: Box, size: Size, orientation: int) -> Box:
    """Return where a box of the upright image lies in the stored image of `size`, before it is turned upright."""
    left, top, right, bottom = box
    if orientation in SWAPPED:
        left, top, right, bottom = top, left, bottom, right
    if orientation in COLUMNS_REVERSED:
        left, right = size[0] - right, size[0] - left
    if orientation in ROWS_REVERSED:
        top, bottom = size[1] - bottom, size[1] - top
    return left, top, right, bottom


def _squash(size: Size, target: Size, _crop_fraction: float) -> ResizePlan:
    return ResizePlan(_whole(size), target)


def _letterbox(size: Size, target: Size, _crop_fraction: float) -> ResizePlan:
    scale = min(target[0] / size[0], target[1] / size[1])
    inner = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return ResizePlan(_whole(size), inner, ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2))


def _crop(size: Size, target: Size, crop_fraction: float) -> ResizePlan:
    width, height = size
    scale = min(width / target[0], height / target[1]) * crop_fraction
    left, top = (width - target[0] * scale) / 2, (height - target[1] * scale) / 2
    return ResizePlan((left, top, width - left, height - top), target)


def _keras_crop(size: Size, target: Size, _crop_fraction: float) -> ResizePlan:
    """Take the largest box of whole pixels with the target's proportions, as `smart_resize` does."""
    width = max(1, min(size[0], size[1] * target[0] // target[1]))
    height = max(1, min(size[1], size[0] * target[1] // target[0]))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return ResizePlan((left, top, left + width, top + height), target)


def _keras_pad(size: Size, target: Size, _crop_fraction: float) -> ResizePlan:
    """Fit the whole image in, in float32 and rounded down as `tf.image.resize_with_pad`: the longer side may lose 1."""
    ratio = max(np.float32(s) / np.float32(t) for s, t in zip(size, target, strict=True))
    fitted = [np.float32(s) / ratio for s in size]
    inner = max(1, int(fitted[0])), max(1, int(fitted[1]))
    left, top = (max(0, int((np.float32(t) - f) / 2)) for t, f in zip(target, fitted, strict=True))
    return ResizePlan(_whole(size), inner, (left, top))


def _torchvision(size: Size, target: Size, crop_fraction: float) -> ResizePlan:
    """Resize the shorter side to that of the target divided by the fraction, then cut whole pixels out of the middle.

    Where the resized image is smaller than the target along an axis, it is centred on black there.
    """
    shorter = max(1, round(min(target) / crop_fraction))
    longer = shorter * max(size) // min(size)
    resized = (shorter, longer) if size[0] <= size[1] else (longer, shorter)
    across, down = (_cut(*lengths) for lengths in zip(size, resized, target, strict=True))
    return ResizePlan(
        box=(across.start, down.start, across.end, down.end),
        inner=(across.length, down.length),
        offset=(across.offset, down.offset),
    )


@dataclass(frozen=True)
class _Cut:
    """A stretch of an axis of the image that becomes `length` pixels from `offset` on."""

    start: float
    end: float
    length: int
    offset: int


def _cut(size: int, resized: int, target: int) -> _Cut:
    """Cut the middle `target` pixels out of an axis that is resized from `size` to `resized`."""
    if resized < target:
        return _Cut(start=0, end=size, length=resized, offset=(target - resized) // 2)
    first, scale = round((resized - target) / 2), size / resized
    return _Cut(start=first * scale, end=(first + target) * scale, length=target, offset=0)


def _whole(size: Size) -> Box:
    return 0.0, 0.0, float(size[0]), float(size[1])


@dataclass(frozen=True)
class _Way:
    """A way to resize; `library` says whether it has to give the pixels of a training library's loader."""

    plan: Callable[[Size, Size, float], ResizePlan]
    sampler: Sampler = "antialiased"
    library: bool = False


_WAYS: dict[Resize, _Way] = {
    "squash": _Way(_squash),
    "letterbox": _Way(_letterbox),
    "crop": _Way(_crop),
    "keras": _Way(_squash, "bilinear", library=True),
    "keras-crop": _Way(_keras_crop, "bilinear", library=True),
    "keras-pad": _Way(_keras_pad, "bilinear", library=True),
    "keras-nearest": _Way(_squash, "nearest", library=True),
    "torchvision": _Way(_torchvision, library=True),
}
