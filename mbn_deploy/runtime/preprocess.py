"""The one preprocessing: calibration, evaluation, golden vectors and devices all use these two functions.

`load_pixels` makes uint8 pixels of the model's size from any image; `normalize` makes real numbers from pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from PIL import Image

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.images import UPRIGHT, DecodedImage, Source, read_image
from mbn_deploy.runtime.resample import resize_bilinear
from mbn_deploy.runtime.resize_plan import (
    Box,
    Size,
    as_training_loader,
    choose_sampler,
    jpeg_reduction,
    plan_resize,
    stored_box,
    swap_sides,
)

BORDER_PIXEL = 0  # black, as tf.image.resize_with_pad and keras.layers.Resizing(pad_to_aspect_ratio=True)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}


def load_pixels(source: Source, size: tuple[int, int], preprocess: Preprocess, channels: int = 3) -> Pixels:
    """Decode and resize an image to pixels for a model's input.

    Args:
        source: a path, bytes, an open binary file, a PIL image, or an array of uint8 or uint16 pixels
            ((H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) RGBA). An array that already has the height and width of
            `size` is taken as prepared: it is neither cropped nor resized.
        size: (height, width) of the model's input.
        preprocess: how to resize, and the channel order of the result. `squash` resizes the whole image to `size`;
            `crop` takes the largest centred box of the right aspect ratio, shrunk by `crop_fraction`; `letterbox`
            keeps the aspect ratio and pads with black. Their filters are Pillow's, which antialias when they make an
            image smaller. `keras`, `keras-crop`, `keras-pad`, `keras-nearest` and `torchvision` give the pixels of
            those libraries' loaders (see `resize_plan`) and drop transparency as these do. Images are turned upright
            as their EXIF orientation says in every case; none of those loaders does that.
        channels: 3 for colour, 1 for grey (ITU-R 601 luma).

    Returns:
        uint8 (height, width, channels), contiguous.

    Raises:
        InputError: the source cannot be read; the message names it.
        UsageError: the source is not an image at all, or `channels` is neither 1 nor 3.
    """
    if is_prepared(source, size, channels):
        return to_channel_order(source, preprocess)
    target = size[1], size[0]
    has_size = isinstance(source, np.ndarray) and source.shape[:2] == size
    geometry = Preprocess(resize="squash") if has_size else preprocess

    def reduction(width: int, height: int, orientation: int) -> int:
        return jpeg_reduction(plan_resize(swap_sides((width, height), orientation), target, geometry), geometry)

    decoded = read_image(source, channels, reduction, drop_alpha=as_training_loader(preprocess))
    image = _resize(decoded, target, geometry)
    pixels = np.array(image, dtype=np.uint8).reshape(*size, channels)
    return to_channel_order(pixels, preprocess)


def is_prepared(source: object, size: tuple[int, int], channels: int) -> TypeGuard[Pixels]:
    """Return whether the source is a uint8 array of exactly (height, width, channels)."""
    return isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape == (*size, channels)


def to_channel_order(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Return RGB pixels (..., C) in the channel order of `preprocess`, contiguous."""
    return np.ascontiguousarray(pixels[..., ::-1] if preprocess.channels == "bgr" else pixels)


def normalize(pixels: Pixels | Floats, preprocess: Preprocess) -> Floats:
    """Return (pixel - mean) / std for each channel: uint8 or float (..., H, W, C) becomes float32 of the same shape.

    The channels must be in the order of `preprocess.channels`, as `load_pixels` returns them.
    """
    channels, width = pixels.shape[-1], pixels.shape[-2]
    # Rows of W * C: numpy is ten times slower where the innermost axis has three elements.
    real = pixels.astype(np.float32).reshape(*pixels.shape[:-2], width * channels)
    real -= np.tile(per_channel(preprocess.mean, channels), width)
    real /= np.tile(per_channel(preprocess.std, channels), width)
    return real.reshape(pixels.shape)


def per_channel(values: Sequence[float], channels: int) -> Floats:
    """Return one float32 number for each channel; a single number is repeated.

    Raises `UsageError` where there are neither one nor `channels` different numbers.
    """
    if len(values) != channels and len(set(values)) != 1:
        raise UsageError(f"preprocessing has {len(values)} numbers {tuple(values)} for {channels} channels")
    return np.full(channels, values[0], np.float32) if len(values) != channels else np.asarray(values, np.float32)


def _resize(decoded: DecodedImage, target: Size, preprocess: Preprocess) -> Image.Image:
    """Resize the stored image, then turn it upright: turning few pixels is cheaper than turning many."""
    plan = plan_resize(swap_sides(decoded.size, decoded.orientation), target, preprocess)
    box = stored_box(plan.box, decoded.size, decoded.orientation)
    image = _sample(decoded, box, swap_sides(plan.inner, decoded.orientation), preprocess)
    if decoded.orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[decoded.orientation])
    if image.size == target:
        return image
    canvas = Image.new(image.mode, target, BORDER_PIXEL)
    canvas.paste(image, plan.offset)
    return canvas


def _sample(decoded: DecodedImage, box: Box, size: Size, preprocess: Preprocess) -> Image.Image:
    """Resize a box of the stored image, given in the file's pixels, to `size` (width, height)."""
    sampler = choose_sampler(preprocess)
    if sampler == "bilinear":
        whole = int(box[0]), int(box[1]), int(box[2]), int(box[3])
        return resize_bilinear(decoded.image, whole, size)
    resampling = Image.Resampling.NEAREST if sampler == "nearest" else _FILTERS[preprocess.filter]
    left, top, right, bottom = (edge / decoded.reduction for edge in box)
    return decoded.image.resize(size, resampling, box=(left, top, right, bottom))
