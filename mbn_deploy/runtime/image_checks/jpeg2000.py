"""Check how many pieces a JPEG 2000 file cuts its picture into (ITU-T T.800, annexes A and I).

A decoder keeps a record of every precinct and code-block, empty or not: 3 kB that ask for small ones take 7 GB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.image_checks.sizes import check_size

STARTS = (b"\xff\x4f\xff\x51", b"\0\0\0\x0c")  # a codestream, and the first box of a file
# Encoders cut precincts of 128 × 128 pixels and more: some 11,000 of the largest picture with four channels.
PRECINCT_LIMIT = 2**17
BLOCK_LIMIT = 2**20  # code-blocks; encoders make them of 32 × 32 or 64 × 64 pixels

_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


@dataclass(frozen=True)
class _Grid:
    """The picture and its tiles, in pixels."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    components: int

    @property
    def tiles(self) -> int:
        return -(-self.width // self.tile_width) * -(-self.height // self.tile_height)


def check_jpeg2000(file: IO[bytes], name: str) -> None:
    """Raise `InputError` for a JPEG 2000 file of too many precincts or code-blocks, or too large a picture."""
    file.seek(0)
    data = file.read()
    grid = None
    try:
        for marker, segment in _segments(data, _codestream(data)):
            if marker == _SIZ:
                grid = _read_grid(segment)
                check_size(grid.width, grid.height, name, "JPEG2000")
            elif grid is not None and marker in (_COD, _COC):
                _check_coding(_coding_style(marker, segment, grid), grid, name)
    except (struct.error, IndexError):
        return  # cut off: the decoder will say so


def _codestream(data: bytes) -> int:
    """Return where the codestream begins; raises `struct.error` if the file has none."""
    at = 0
    while not data.startswith(STARTS[0], at):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,), head = struct.unpack_from(">Q", data, at + 8), 16
        at += head if kind == b"jp2c" or not length else max(head, length)
    return at


def _segments(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the segments of the main header and of each tile-part's; raises `struct.error` where the data end."""
    at, part, part_length = at + 2, 0, 0
    while True:
        (marker,) = struct.unpack_from(">H", data, at)
        if marker == _EOC:
            return
        if marker == _SOD:
            if not part_length:  # the last part reaches to the end
                return
            at = max(at + 2, part + part_length)
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == _SOT:
            part, (part_length,) = at, struct.unpack_from(">I", data, at + 6)
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)


def _read_grid(segment: bytes) -> _Grid:
    right, bottom, left, top, tile_width, tile_height, _, _, components = struct.unpack_from(">8IH", segment, 2)
    return _Grid(right - left, bottom - top, max(1, tile_width), max(1, tile_height), components)


@dataclass(frozen=True)
class _Coding:
    components: int  # that it applies to
    levels: int  # of the wavelet transform
    block: int  # pixels of a code-block
    precincts: bytes  # of each resolution, the smallest first: the exponents of both sides; empty: the largest


def _coding_style(marker: int, segment: bytes, grid: _Grid) -> _Coding:
    if marker == _COD:
        components, explicit, at = grid.components, segment[0] & 1, 5
    else:
        index = 1 if grid.components < 257 else 2
        components, explicit, at = 1, segment[index] & 1, index + 1
    block = 4 << ((segment[at + 1] & 15) + (segment[at + 2] & 15) + 2)
    precincts = segment[at + 5 : at + 6 + segment[at]] if explicit else b""
    return _Coding(components, segment[at], block, precincts)


def _check_coding(coding: _Coding, grid: _Grid, name: str) -> None:
    width, height = min(grid.width, grid.tile_width), min(grid.height, grid.tile_height)
    precincts = 0
    for resolution in range(coding.levels + 1):
        sides = coding.precincts[resolution] if resolution < len(coding.precincts) else 0xFF
        shrunk = coding.levels - resolution
        precincts += -(-width // (1 << shrunk + (sides & 15))) * -(-height // (1 << shrunk + (sides >> 4)))
    precincts *= grid.tiles * coding.components
    blocks = grid.width * grid.height * coding.components // coding.block
    if precincts > PRECINCT_LIMIT or blocks > BLOCK_LIMIT:
        raise InputError(
            f"{name}: a JPEG 2000 file of {precincts} precincts and {blocks} code-blocks; decoding it would take too "
            "much memory: save it anew"
        )
