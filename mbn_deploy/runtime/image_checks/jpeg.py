"""Count the scans of a JPEG, and check its EXIF data, by following its markers as a decoder does (ITU-T T.81, B.1).

Each scan is a pass over all blocks of the picture, and an empty one takes some bytes only: half a megabyte can hold
6,000 scans of 49 million pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.image_checks.sizes import PIXEL_LIMIT
from mbn_deploy.runtime.image_checks.tiff import check_directory

START = b"\xff\xd8\xff"
# Encoders write about ten scans, those that search for the smallest file up to about twenty; the format's precision
# allows at most 14 for each of 64 coefficients.
SCAN_LIMIT = 100
# Pixels of all scans together: 32 scans of the largest picture, 100 of 28 million pixels.
SCANNED_PIXELS = 32 * PIXEL_LIMIT

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2
# Start of frame: all between C0 and CF but DHT (C4), the reserved C8 and DAC (CC). From C9 on: arithmetic coding.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_FIRST_ARITHMETIC = 0xC9
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
# Decoders skip all else between segments, as well as entropy-coded data, in which FF 00 is the byte FF.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_EXIF, _MPF = b"Exif\0\0", b"MPF\0"


@dataclass
class _Header:
    """The parts of a JPEG before its first scan."""

    frame: int | None = None
    pixels: int = 0
    components: int = 0
    exif: bytearray = field(default_factory=bytearray)


def check_jpeg(file: IO[bytes], name: str) -> None:
    """Check the JPEG at the start of `file`.

    Raises `InputError` if it has so many scans that decoding takes too long, is coded arithmetically, or if its EXIF
    data do not fit into themselves. Whatever else is wrong with the file is left to the decoder.
    """
    file.seek(0)
    data = file.read()
    header, scans = _Header(), 0
    for marker, segment in _segments(data):
        if marker == _SOS:
            scans += 1
            if _is_single(header, segment):
                break  # decoders accept no further scan, so that the pixels need not be searched for one
            _check_scans(scans, header.pixels, name)
        elif scans == 0:
            _read_header(header, marker, segment, name)
    check_directory(bytes(header.exif), name)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the code and the contents of each marker segment of the first image."""
    at = len(START) - 1
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.start() + 1], found.end()
        if marker == _EOI:
            return
        if marker in _STANDALONE or marker == _SOI:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        yield marker, data[at + 2 : at + max(2, length)]
        at += max(2, length)


def _read_header(header: _Header, marker: int, segment: bytes, name: str) -> None:
    if marker in _FRAMES and len(segment) >= 6:
        if marker >= _FIRST_ARITHMETIC:
            # Such data need no bytes for a block, so that a small file could take minutes; no browser reads them.
            raise InputError(f"{name}: an arithmetic-coded JPEG is not read; convert it, for example with jpegtran")
        height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
        header.frame, header.pixels, header.components = marker, width * height, segment[5]
    elif marker == _APP1 and segment.startswith(_EXIF):
        header.exif += segment[len(_EXIF) :] if header.exif else segment
    elif marker == _APP2 and segment.startswith(_MPF):
        check_directory(segment[len(_MPF) :], name)


def _is_single(header: _Header, segment: bytes) -> bool:
    """Return whether a sequential JPEG has all its components in this scan."""
    return header.frame in _SEQUENTIAL and len(segment) > 0 and segment[0] == header.components


def _check_scans(scans: int, pixels: int, name: str) -> None:
    if scans > SCAN_LIMIT or scans * pixels > SCANNED_PIXELS:
        raise InputError(
            f"{name}: a JPEG of {scans} or more scans; decoding it would take too long. Common ones have about ten: "
            "save it anew"
        )
