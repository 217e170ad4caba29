"""Check the directory of a TIFF file, or of EXIF data, which have the same form (TIFF 6.0, section 2).

The entries of a directory say where their values lie, and may all name the same bytes. A megabyte of entries could so
make a reader copy terabytes, or decode the same strip a million times.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.image_checks.sizes import PIXEL_LIMIT, SIDE_LIMIT

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")  # the last two: what some programs write
ENTRY_LIMIT = 4096  # entries of a directory; there are some hundred tags
NUMBER_LIMIT = 2**20  # numbers of an entry: above the strips and tiles of the largest picture
OVERLAP = 4  # how often a directory may name each byte of the file: damaged ones do so once or twice

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTES = frozenset({1, 2, 6, 7})  # types of text and of opaque data
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # types of whole numbers
_WIDTH, _HEIGHT, _STRIPS, _SAMPLES, _STRIP_ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILES = (
    *(256, 257, 273, 277, 278, 284),
    *(322, 323, 324),
)
_INNER = (0x8769, 0x8825, 0xA005)  # directories of EXIF, GPS and interoperability


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    value: bytes  # or its position

    @property
    def size(self) -> int:
        return self.count * _SIZES.get(self.kind, 0)


@dataclass(frozen=True)
class _Layout:
    """How numbers are stored: `order` of `struct`, and the 64-bit form of BigTIFF."""

    order: str
    big: bool

    def first_number(self, entry: _Entry | None, missing: int) -> int:
        """Return the entry's value if it is one whole number, else `missing`."""
        form = _WHOLE.get(0 if entry is None else entry.kind)
        if entry is None or form is None or entry.count != 1:
            return missing
        return int(struct.unpack_from(self.order + form, entry.value)[0])

    def position(self, entry: _Entry) -> int:
        return int(struct.unpack(self.order + ("Q" if self.big else "I"), entry.value)[0])


def check_directory(data: bytes, name: str) -> None:
    """Check EXIF data, with or without their name in front; see `check_tiff`."""
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    if data[:4] in STARTS:
        check_tiff(io.BytesIO(data), name)


def check_tiff(file: IO[bytes], name: str) -> None:
    """Check the first directory of a TIFF file and the EXIF directories in it.

    Raises `InputError` if its values together are larger than the file, or its strips or tiles than the picture.
    """
    file.seek(0)
    head = file.read(16)
    layout = _Layout("<" if head.startswith(b"II") else ">", b"+" in head[2:4])
    try:
        (start,) = struct.unpack_from(layout.order + ("8xQ" if layout.big else "4xI"), head)
        first = _read_directory(file, layout, start, name)
        for tag in _INNER:
            if tag in first:
                _read_directory(file, layout, layout.first_number(first[tag], 0), name)
    except struct.error:
        return  # cut off: the decoder will say so
    _check_pieces(first, layout, name)


def _read_directory(file: IO[bytes], layout: _Layout, start: int, name: str) -> dict[int, _Entry]:
    length = file.seek(0, io.SEEK_END)
    if not 0 < start < length:
        return {}
    file.seek(start)
    count = struct.unpack(layout.order + ("Q" if layout.big else "H"), file.read(8 if layout.big else 2))[0]
    if count > ENTRY_LIMIT:
        raise InputError(f"{name}: the image is damaged: a directory of {count} entries")
    entries: dict[int, _Entry] = {}
    total = 0
    for tag, entry, position in _entries(file, layout, count):
        if entry.kind not in _BYTES and entry.count > NUMBER_LIMIT and entry.size <= length:
            raise InputError(f"{name}: the image is damaged: {entry.count} numbers in its entry {tag}")
        total += min(entry.size, max(0, length - position))
        entries.setdefault(tag, entry)
    if total > OVERLAP * length:
        raise InputError(f"{name}: the image is damaged: the entries of a directory name more bytes than there are")
    return entries


def _entries(file: IO[bytes], layout: _Layout, count: int) -> Iterator[tuple[int, _Entry, int]]:
    """Yield each entry with its tag, and where its value lies; what lies in the entry itself lies at its end."""
    form = struct.Struct(layout.order + ("HHQ8s" if layout.big else "HHI4s"))
    table = file.read(count * form.size)
    for tag, kind, number, value in form.iter_unpack(table[: len(table) // form.size * form.size]):
        entry = _Entry(kind, number, value)
        yield tag, entry, layout.position(entry) if entry.size > len(value) else 0


def _check_pieces(entries: dict[int, _Entry], layout: _Layout, name: str) -> None:
    """Compare the number of strips or tiles with the size of the picture."""
    number = {tag: layout.first_number(entry, 0) for tag, entry in entries.items()}
    width, height = number.get(_WIDTH, 0), number.get(_HEIGHT, 0)
    if not width or not height:
        return
    planes = max(1, number.get(_SAMPLES, 1)) if number.get(_PLANAR) == 2 else 1
    if _TILES in entries:
        piece = number.get(_TILE_WIDTH) or 1, number.get(_TILE_HEIGHT) or 1
        if max(piece) > SIDE_LIMIT or piece[0] * piece[1] > PIXEL_LIMIT:
            raise InputError(f"{name}: the image is damaged: tiles of {piece[0]} × {piece[1]} pixels")
    else:
        piece = width, min(height, number.get(_STRIP_ROWS) or height)
    needed = -(-width // piece[0]) * -(-height // piece[1])
    listed = entries.get(_TILES) or entries.get(_STRIPS)
    if needed * piece[0] * piece[1] > 2 * PIXEL_LIMIT or (listed and listed.count > 2 * planes * needed):
        raise InputError(f"{name}: the image is damaged: its strips or tiles are more than the picture")
