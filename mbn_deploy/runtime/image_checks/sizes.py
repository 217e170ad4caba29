"""The largest pictures that are decoded, in pixels, rows and bytes.

With these bounds decoding takes less than 1 GiB, whatever a file claims; docs/limits.md has the measured figures.
"""

from __future__ import annotations

from mbn_deploy.errors import InputError

# The same as Pillow's own first limit: 256 MiB of RGB.
PIXEL_LIMIT = 2**28 // 3
# Decoders of these formats hold several copies of a picture: they take about 24 bytes for each pixel.
COPYING_LIMIT = 2**25
COPYING = frozenset({"WEBP", "JPEG2000", "AVIF"})
# Pillow decodes these in Python, a pixel or a run at a time: run-length BMP, and PPM as text or with an odd maximum.
SLOW_LIMIT = 2**22
SLOW = frozenset({"bmp_rle", "ppm", "ppm_plain"})
# Libraries keep a pointer, and Pillow at least four bytes, for each row: 2.4 GB for 1 × 89 million pixels. No JPEG has
# longer sides than this (ITU-T T.81, B.2.2).
SIDE_LIMIT = 2**16 - 1
FILE_LIMIT = 2**30  # bytes; the largest pictures have 16 bits for each of four channels, uncompressed: 716 MB


class TooManyPixelsError(InputError):
    """An image that would take too much memory or time to decode, according to its header."""


def check_size(width: int, height: int, name: str, kind: str | None = None, codec: str | None = None) -> None:
    """Raise `TooManyPixelsError` for a picture above the limits, `InputError` for one without pixels.

    `kind` and `codec` are Pillow's names of the file's format and of its decoder; None for pixels in memory.
    """
    most, what = PIXEL_LIMIT, ""
    if kind in COPYING:
        most, what = COPYING_LIMIT, f" of a {kind} file"
    elif codec in SLOW:
        most, what = SLOW_LIMIT, f" of a {kind} file of this kind ({codec})"
    if width * height > most:
        raise TooManyPixelsError(
            f"{name}: {width} × {height} pixels are more than the {most}{what} that are decoded; make it smaller first"
        )
    if max(width, height) > SIDE_LIMIT:
        raise TooManyPixelsError(
            f"{name}: {width} × {height} pixels; a side may have at most {SIDE_LIMIT}, so cut the picture into pieces"
        )
    if width < 1 or height < 1:
        raise InputError(f"{name}: {width} × {height} pixels")
