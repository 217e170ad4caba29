"""What a native library asks of the system that loads it: its processor, and the page size it is laid out for.

The format is the System V ABI's (gABI 4.3, "ELF Header", "Program Header"). A system can load a library if each of
its LOAD segments is aligned to at least its page size, and lies in the file where it lies in memory, modulo that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mbn_deploy.runtime.formats.flatbuffer import DamagedError

MAGIC = b"\x7fELF"
HEADER_BYTES = 64  # of the 64-bit form; the 32-bit one is shorter
_SHARED_OBJECT = 3  # e_type: ET_DYN
_LOAD = 1  # p_type: PT_LOAD
_SEGMENTS_LIMIT = 4096
# By bits: e_type to e_phnum behind the 16 bytes of identification; a program header, with the places of
# (p_offset, p_vaddr, p_filesz, p_memsz, p_align) in it.
_HEADERS = {32: "HHIIIIIHHH", 64: "HHIQQQIHHH"}
_PROGRAM_HEADERS = {32: ("8I", (1, 2, 4, 5, 7)), 64: ("2I6Q", (2, 3, 5, 6, 7))}


@dataclass(frozen=True)
class Segment:
    """A part of the file that is mapped: bytes and addresses."""

    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int

    @property
    def page_size(self) -> int:
        """The largest page that it can be mapped with: its alignment, if it lies in the file as in memory.

        Programs that only raise the stated alignment of a finished library leave the two apart.
        """
        apart = self.offset - self.address
        fits = apart & -apart or self.alignment
        return min(fits, self.alignment)


@dataclass(frozen=True)
class Library:
    """A shared object: `machine` is e_machine, `bits` 32 or 64, `segments` the LOAD ones."""

    machine: int
    bits: int
    segments: tuple[Segment, ...]

    @property
    def page_size(self) -> int:
        """The largest page size, in bytes, of a system that can load it."""
        return min(segment.page_size for segment in self.segments)


def read_library(part: Callable[[int, int], bytes]) -> Library:
    """Read the headers of a shared object.

    `part(start, length)` gives so many bytes of it, fewer at its end. Raises `DamagedError`.
    """
    head = part(0, HEADER_BYTES)
    if head[:4] != MAGIC or len(head) < 20:
        raise DamagedError("no ELF file")
    bits = {1: 32, 2: 64}.get(head[4])
    order = {1: "<", 2: ">"}.get(head[5])
    if bits is None or order is None:
        raise DamagedError(f"class {head[4]} and byte order {head[5]} are none of ELF's")
    kind, machine, _, _, place, _, _, _, width, count = _unpacked(order + _HEADERS[bits], head, 16)
    form, places = _PROGRAM_HEADERS[bits]
    form = order + form
    if kind != _SHARED_OBJECT:
        raise DamagedError(f"an ELF file of type {kind}, no shared object")
    if width != struct.calcsize(form) or not 0 < count <= _SEGMENTS_LIMIT:
        raise DamagedError(f"{count} program headers of {width} bytes")
    table = part(place, width * count)
    headers = [_unpacked(form, table, width * index) for index in range(count)]
    segments = tuple(Segment(*(header[i] for i in places)) for header in headers if header[0] == _LOAD)
    _check(segments)
    return Library(machine, bits, segments)


def _check(segments: tuple[Segment, ...]) -> None:
    if not segments:
        raise DamagedError("no LOAD segments in it")
    for segment in segments:
        if segment.alignment & (segment.alignment - 1):
            raise DamagedError(f"a LOAD segment is aligned to {segment.alignment}, no power of two")


def _unpacked(form: str, data: bytes, at: int) -> tuple[int, ...]:
    if at + struct.calcsize(form) > len(data):
        raise DamagedError("its headers are cut off")
    return struct.unpack_from(form, data, at)
