"""The one preprocessing: calibration, evaluation, golden vectors and the device all use these two functions.

`load_pixels` makes uint8 pixels of the model's size from any picture, `normalize` real numbers from pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.images import SWAPS_SIDES, UPRIGHT, Picture, Source, read_picture

# A JPEG is decoded smaller (1/2, 1/4, 1/8, in the DCT domain) while at least this many of its pixels are
# left to each output pixel, along both axes. The decoder keeps every frequency below the reduced picture's
# Nyquist limit; with two pixels to each output pixel that is twice the output's, and all that the
# antialiasing filter of the resize that follows would pass is still there.
REDUCTION_GAP = 2.0
LETTERBOX_PIXEL = 0  # black, as tf.image.resize_with_pad and keras.layers.Resizing(pad_to_aspect_ratio=True)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}
Size = tuple[int, int]


def load_pixels(source: Source, size: Size, preprocess: Preprocess, channels: int = 3) -> Pixels:
    """The picture as pixels for a model's input.

    Args:
        source: a path, bytes, an open binary file, a PIL image, or an array of uint8 or uint16 pixels
            ((H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) RGBA). An array that has the height and width of
            `size` already is taken as prepared: it is neither cropped nor resized.
        size: (height, width) of the model's input.
        preprocess: how to resize, and the channel order of the result. `squash` maps the whole picture
            to `size`; `crop` takes the largest centred box of the right proportions, shrunk by
            `crop_fraction`; `letterbox` keeps proportions and fills with black. Filters are Pillow's:
            they antialias when they make a picture smaller.
        channels: 3 for colour, 1 for grey (ITU-R 601 luma).

    Returns:
        uint8 (height, width, channels), contiguous.

    Raises:
        InputError: the source cannot be read; the message names it.
        UsageError: the source is no picture at all, or `channels` is neither 1 nor 3.
    """
    if is_prepared(source, size, channels):
        return ordered(source, preprocess)
    target = size[1], size[0]
    prepared = isinstance(source, np.ndarray) and source.shape[:2] == size
    geometry = Preprocess(resize="squash") if prepared else preprocess

    def reduction(width: int, height: int, orientation: int) -> int:
        if geometry.filter == "nearest":  # picks single pixels: they must be the file's
            return 1
        return _reduction(_plan((width, height), _stored(target, orientation), geometry))

    picture = read_picture(source, channels, reduction)
    image = _resized(picture, target, geometry)
    pixels = np.array(image, dtype=np.uint8).reshape(*size, channels)
    return ordered(pixels, preprocess)


def is_prepared(source: object, size: Size, channels: int) -> TypeGuard[Pixels]:
    """Whether the source is a uint8 array of exactly (height, width, channels)."""
    return isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape == (*size, channels)


def ordered(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """RGB pixels (..., C) in the channel order of `preprocess`, contiguous."""
    return np.ascontiguousarray(pixels[..., ::-1] if preprocess.channels == "bgr" else pixels)


def normalize(pixels: Pixels, preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """(pixel - mean) / std per channel: uint8 (..., H, W, C) becomes float32 of the same shape.

    The pixels' channels must lie in the order of `preprocess.channels`, as `load_pixels` gives them.
    """
    channels, width = pixels.shape[-1], pixels.shape[-2]
    # Rows of W * C: numpy is ten times slower where the innermost axis has three elements.
    real = pixels.astype(np.float32).reshape(*pixels.shape[:-2], width * channels)
    real -= np.tile(per_channel(preprocess.mean, channels), width)
    real /= np.tile(per_channel(preprocess.std, channels), width)
    return real.reshape(pixels.shape)


def per_channel(values: Sequence[float], channels: int) -> npt.NDArray[np.float32]:
    """One number a channel, float32; raises `UsageError` where the counts contradict each other."""
    if len(values) != channels and len(set(values)) != 1:
        raise UsageError(f"preprocessing has {len(values)} numbers {tuple(values)} for {channels} channels")
    return np.full(channels, values[0], np.float32) if len(values) != channels else np.asarray(values, np.float32)


@dataclass(frozen=True)
class _Plan:
    """Which box of the stored picture (left, top, right, bottom) becomes how many pixels (width, height)."""

    box: tuple[float, float, float, float]
    inner: Size


def _stored(target: Size, orientation: int) -> Size:
    """The target's (width, height) as the stored picture lies, before it is turned upright."""
    return (target[1], target[0]) if orientation in SWAPS_SIDES else target


def _plan(size: Size, target: Size, preprocess: Preprocess) -> _Plan:
    """`size` and `target` are (width, height). All boxes are centred, so turning the picture keeps them."""
    (width, height), whole = size, (0.0, 0.0, float(size[0]), float(size[1]))
    if preprocess.resize == "squash":
        return _Plan(whole, target)
    if preprocess.resize == "letterbox":
        scale = min(target[0] / width, target[1] / height)
        return _Plan(whole, (max(1, round(width * scale)), max(1, round(height * scale))))
    scale = min(width / target[0], height / target[1]) * preprocess.crop_fraction
    left, top = (width - target[0] * scale) / 2, (height - target[1] * scale) / 2
    return _Plan((left, top, width - left, height - top), target)


def _reduction(plan: _Plan) -> int:
    left, top, right, bottom = plan.box
    gap = min((right - left) / plan.inner[0], (bottom - top) / plan.inner[1])
    return next((factor for factor in (8, 4, 2) if gap >= REDUCTION_GAP * factor), 1)


def _resized(picture: Picture, target: Size, preprocess: Preprocess) -> Image.Image:
    """Resize as stored, then turn upright: turning few pixels is cheaper than turning many."""
    plan = _plan(picture.size, _stored(target, picture.orientation), preprocess)
    left, top, right, bottom = (edge / picture.reduction for edge in plan.box)
    image = picture.image.resize(plan.inner, _FILTERS[preprocess.filter], box=(left, top, right, bottom))
    if picture.orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[picture.orientation])
    return image if image.size == target else _letterboxed(image, target)


def _letterboxed(image: Image.Image, target: Size) -> Image.Image:
    ground = Image.new(image.mode, target, LETTERBOX_PIXEL)
    ground.paste(image, ((target[0] - image.size[0]) // 2, (target[1] - image.size[1]) // 2))
    return ground
