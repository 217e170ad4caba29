"""Bilinear sampling without antialiasing, as `tf.image.resize` does it.

Pillow antialiases when it makes an image smaller; TensorFlow and Keras do not, unless told to. Each pixel of the result
lies between four pixels of the image, whatever the sizes are:

    source = (i + 1/2) * length / size - 1/2    the centres of pixels lie at halves (TensorFlow: half_pixel_centers)

The weights are multiples of 1 / 2048 and the sums integers, so that other languages get the same pixels; a pixel
differs from TensorFlow's float32 by less than 0.7 levels, 0.5 of it from rounding to a whole number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

BITS = 11  # of a weight: with two weights and the 8 bits of a pixel, sums fit into 31 bits
ONE = 1 << BITS

Integers = npt.NDArray[np.int32]


class Taps(NamedTuple):
    """For each pixel of the result along one axis: its two neighbours, and the weight of the second, in 1 / `ONE`."""

    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    weight: Integers


def bilinear_taps(start: int, length: int, size: int) -> Taps:
    """Return the neighbours of `size` pixels that are sampled from `length` pixels, of which `start` is the first."""
    position = (2 * np.arange(size, dtype=np.int64) + 1) * length - size  # in 1 / (2 * size) of a pixel
    lower, rest = np.divmod(position, 2 * size)
    return Taps(
        lower=start + np.clip(lower, 0, length - 1),
        upper=start + np.clip(lower + 1, 0, length - 1),
        weight=((rest * ONE + size) // (2 * size)).astype(np.int32),
    )


def resize_bilinear(image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """Resize the box (left, top, right, bottom) of an L or RGB image to `size` (width, height), without antialias."""
    left, top, right, bottom = box
    columns, rows = bilinear_taps(left, right - left, size[0]), bilinear_taps(top, bottom - top, size[1])
    shrinks = right - left >= size[0] and bottom - top >= size[1]
    (a, b), (c, d) = _picked(image, box, size) if shrinks else _indexed(image, columns, rows)
    across = columns.weight[None, :, None] if a.ndim == 3 else columns.weight[None]
    down = rows.weight[:, None, None] if a.ndim == 3 else rows.weight[:, None]
    above = a * (ONE - across) + b * across
    below = c * (ONE - across) + d * across
    mixed = above * (ONE - down) + below * down + ONE * ONE // 2
    return Image.fromarray((mixed // (ONE * ONE)).astype(np.uint8))


_Corners = tuple[tuple[Integers, Integers], tuple[Integers, Integers]]  # above: left, right; below: left, right


def _indexed(image: Image.Image, columns: Taps, rows: Taps) -> _Corners:
    pixels = np.asarray(image)
    above, below = pixels[rows.lower].astype(np.int32), pixels[rows.upper].astype(np.int32)
    return (above[:, columns.lower], above[:, columns.upper]), (below[:, columns.lower], below[:, columns.upper])


def _picked(image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]) -> _Corners:
    """Let Pillow pick the pixels of a box that is not enlarged: an array of the whole image costs as much as decoding.

    Positions are multiples of 1 / (2 * size); a quarter of that more keeps rounding errors from moving a neighbour.
    """
    left, top, right, bottom = box
    across, down = (right - left) / size[0], (bottom - top) / size[1]
    first_x, first_y = left - 0.5 + 1 / (8 * size[0]), top - 0.5 + 1 / (8 * size[1])

    def pick(x: int, y: int) -> Integers:
        affine = (across, 0, first_x + x, 0, down, first_y + y)
        return np.asarray(
            image.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.NEAREST), dtype=np.int32
        )

    return (pick(0, 0), pick(1, 0)), (pick(0, 1), pick(1, 1))
