"""Decode anything that holds an image to an 8-bit PIL image, grey or RGB.

Files leave these points open; they are settled here:
- transparency is composited onto white, as paper and most viewers show it, unless the caller drops it;
- 16-bit values are divided by 257, so that 65535 becomes 255;
- arrays are RGB (or grey, or with alpha last), never BGR;
- of an animation or a multi-page file the first frame is used;
- colour profiles are ignored, as the training pipelines of these models do.

Only the formats of `FORMATS` are opened: Pillow knows others that start programs (EPS).
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import IO, Any, Union

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.image_checks.files import check_file
from mbn_deploy.runtime.image_checks.sizes import TooManyPixelsError, check_size
from mbn_deploy.runtime.image_checks.tiff import check_directory

Source = Union[str, "PathLike[str]", bytes, bytearray, memoryview, IO[bytes], Image.Image, npt.NDArray[Any]]

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
# Files with these suffixes are taken for images where a folder is read.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
REDUCIBLE = ("JPEG", "MPO")  # formats that can be decoded smaller than they are
WHITE = (255, 255, 255, 255)
_BAND_PIXELS = 2**20  # of a picture that is worked on in bands of rows

_ORIENTATION_TAG = 0x0112
# How to turn the stored image upright, by EXIF orientation (EXIF 2.3, section 4.6.4).
UPRIGHT: dict[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MODES = {1: "L", 3: "RGB"}
# The exceptions that Pillow's decoders raise for damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class DecodedImage:
    """An image as it is stored, decoded but not yet turned upright.

    `image` has mode L or RGB and may have been decoded `reduction` times smaller than the file's image; `size` is
    the (width, height) in the file. The decoder rounds up, so the last column and row of `image` may be partly
    covered: exactly size / reduction is.
    """

    image: Image.Image
    size: tuple[int, int]
    reduction: int = 1
    orientation: int = 1


# From (stored width, stored height, orientation) to how many times smaller a JPEG may be decoded: 1, 2 or 4.
Reduction = Callable[[int, int, int], int]
_Flatten = Callable[[Image.Image], Image.Image]  # to mode L or RGB


def read_image(source: Source, channels: int, reduction: Reduction, *, drop_alpha: bool = False) -> DecodedImage:
    """Decode `source` to grey (`channels` 1) or RGB (3), a JPEG as much smaller as `reduction` allows.

    With `drop_alpha` a transparent pixel has the colour that is stored for it, not white.

    Raises:
        InputError: the source does not exist, is not an image, is damaged or truncated, has too many pixels or a
            pixel type without a defined range; the message names it.
        UsageError: the source is not of a kind that can hold an image, or `channels` is neither 1 nor 3.
    """
    if channels not in _MODES:
        raise UsageError(f"images have 1 or 3 channels; a model with {channels} input channels cannot be fed with them")
    name = source_name(source)
    flatten = partial(_flatten, channels=channels, name=name, drop_alpha=drop_alpha)
    if isinstance(source, Image.Image):
        return _from_pillow(source, flatten, name)
    if isinstance(source, np.ndarray):
        image = image_from_array(source)
        return DecodedImage(flatten(image), image.size)
    with _open(source, name) as image:
        return _decode(image, flatten, reduction)


def stored_size(source: Source) -> tuple[int, int]:
    """Return the (width, height) of an image file from its header, before it is turned upright; decodes nothing.

    `source` is a path, bytes or an open file. Raises `InputError` for a file that is not an image,
    `TooManyPixelsError` above the limits of `image_checks.sizes`.
    """
    return stored_format(source)[1]


def stored_format(source: Source) -> tuple[str, tuple[int, int]]:
    """Return the format of an image file, one of `FORMATS`, and its `stored_size`."""
    with _open(source, source_name(source)) as image:
        return str(image.format), image.size


def is_turned(source: Source) -> bool:
    """Return whether a JPEG file is stored turned or mirrored, by its EXIF orientation; decodes nothing."""
    with _open(source, source_name(source)) as image:
        return image.format in REDUCIBLE and _orientation(image) in UPRIGHT


def decode_upright(source: Source) -> Pixels:
    """Decode the whole image to uint8 RGB (H, W, 3), turned upright; raises the errors of `read_image`."""
    decoded = read_image(source, 3, lambda _width, _height, _orientation: 1)
    turn = UPRIGHT.get(decoded.orientation)
    return np.asarray(decoded.image if turn is None else decoded.image.transpose(turn))


def source_name(source: Any) -> str:
    """Return the name of a source for error messages."""
    if isinstance(source, (str, PathLike)):
        return fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"image of {len(source)} bytes in memory"
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape}"
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(name) if name else f"{type(source).__name__} object"


def image_from_array(array: npt.NDArray[Any]) -> Image.Image:
    """Convert uint8 or uint16 pixels to a PIL image.

    The shape is (H, W), (H, W, 1), (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA. Raises `InputError` for
    another shape or type.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"array of {array.dtype}: pixels must be uint8 (0..255) or uint16 (0..65535)")
    _check_shape(array)
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(to_8_bits(flat)))


def _check_shape(array: npt.NDArray[Any]) -> None:
    if array.ndim not in (2, 3) or not array.size or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise InputError(f"array of shape {array.shape}: an image is (H, W) or (H, W, C) with C = 1, 2, 3 or 4")
    check_size(array.shape[1], array.shape[0], source_name(array))


def to_8_bits(values: npt.NDArray[Any]) -> Pixels:
    """Scale uint16 values by 1 / 257 and round; return uint8 values as they are."""
    if values.dtype == np.uint8:
        return values
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _BAND_PIXELS // values[0].size)
    for top in range(0, len(values), rows):
        scaled[top : top + rows] = (values[top : top + rows].astype(np.uint32) + 128) // 257
    return scaled


@contextmanager
def _open(source: Any, name: str) -> Iterator[Image.Image]:
    """Open an image file and read its header; decoding errors inside the block become `InputError`, too."""
    try:
        file = _readable(source, name)
        _check_structure(file, name)
        image = Image.open(file, formats=_known_formats())
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except PermissionError:
        raise InputError(f"{name}: no permission to read it") from None
    except IsADirectoryError:
        raise InputError(
            f"{name}: a folder, not an image; name its images, or read it as a source of frames: folder:{name}"
        ) from None
    except _BOMBS as error:
        raise TooManyPixelsError(f"{name}: {error}") from None
    except UnidentifiedImageError:  # its message holds the address of an object
        raise InputError(f"{name}: not an image in a format that can be read ({', '.join(FORMATS)})") from None
    except _DECODER_ERRORS as error:
        raise InputError(
            f"{name}: not an image in a format that can be read ({', '.join(FORMATS)}): {error}"
        ) from error
    with image:
        _check_picture(image, name)
        with _translate_errors(name):
            yield image


def _check_picture(image: Image.Image, name: str) -> None:
    """Check the size of an image, which may not be decoded yet."""
    tiles = getattr(image, "tile", None)  # the parts that are still to be decoded, each with its decoder
    check_size(*image.size, name, image.format, tiles[0][0] if tiles else None)


def _check_structure(file: Any, name: str) -> None:
    """Check a file, given as a path or open, as `check_file` does."""
    if not isinstance(file, (str, PathLike)):
        check_file(file, name)
        return
    with open(file, "rb") as opened:  # noqa: PTH123 (paths may be bytes or text)
        check_file(opened, name)


def _known_formats() -> list[str]:
    """Return those of `FORMATS` that this Pillow has; `Image.init` loads the plugins beyond its first five."""
    if "TIFF" not in Image.OPEN:
        Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _readable(source: Any, name: str) -> Any:
    if isinstance(source, (str, PathLike)):
        _check_regular(source, name)
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise UsageError(f"{name}: an image is given as a path, bytes, an open file, a PIL image or an array")
    seekable = getattr(source, "seekable", None)
    return source if seekable is not None and seekable() else io.BytesIO(source.read())


def _check_regular(path: str | PathLike[str], name: str) -> None:
    """Refuse pipes and devices: reading a pipe could wait forever."""
    with suppress(OSError, ValueError):  # opening the file will say what is wrong
        mode = os.stat(path).st_mode  # noqa: PTH116 (paths may be bytes or text)
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InputError(f"{name}: a pipe or a device, not a file")


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    try:
        yield
    except _BOMBS as error:
        raise InputError(f"{name}: {error}") from None
    except _DECODER_ERRORS as error:
        raise InputError(f"{name}: the image is damaged or truncated: {error}") from error


def _decode(image: Image.Image, flatten: _Flatten, reduction: Reduction) -> DecodedImage:
    factor, size = 1, image.size
    if image.format in REDUCIBLE:
        orientation = _orientation(image)
        factor = decode_smaller(image, reduction(*size, orientation))
        image.load()
        return DecodedImage(flatten(image), size, factor, orientation)
    # PNG keeps EXIF behind the pixels and TIFF turns itself: the orientation is known only after loading.
    image.load()
    return DecodedImage(flatten(image), image.size, 1, _orientation(image))


def decode_smaller(image: Image.Image, factor: int) -> int:
    """Tell the JPEG decoder to make the image smaller by up to `factor`; return the factor that it takes."""
    width, height = image.size
    if factor > 1:
        image.draft(None, (width // factor, height // factor))
    return 1 if image.size == (width, height) else round(width / image.size[0])


def _from_pillow(image: Image.Image, flatten: _Flatten, name: str) -> DecodedImage:
    _check_picture(image, name)
    with _translate_errors(name):
        file = getattr(image, "fp", None)
        if file is not None and not file.closed:  # opened by `Image.open`, and not decoded yet
            check_file(file, name)
        image.load()
        return DecodedImage(flatten(image), image.size, 1, _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        check_directory(image.info.get("exif", b""), "EXIF")
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (InputError, *_DECODER_ERRORS):  # damaged EXIF around an intact image: use it as it is stored
        return 1
    return value if value in UPRIGHT else 1


def _flatten(image: Image.Image, *, channels: int, name: str, drop_alpha: bool) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I": Pillow before 11
        image = Image.fromarray(to_8_bits(np.asarray(image).astype(np.uint16, copy=False)))
    if image.mode in ("I", "F"):
        raise InputError(f"{name}: 32-bit pixels (mode {image.mode}) have no defined range; convert it to 8 or 16 bits")
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    mode = _MODES[channels]
    if (transparent and not drop_alpha) or image.mode in ("RGBa", "La"):  # premultiplied: the colour is lost
        return _on_white(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Composite an image onto white, some rows at a time: the whole at once takes 24 bytes for each pixel."""
    flat = Image.new(mode, image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", band.size, WHITE), band).convert(mode), (0, top))
    return flat
