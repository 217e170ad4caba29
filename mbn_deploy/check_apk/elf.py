"""The processor and the page size that a native library is built for, read from its ELF headers.

The format is that of the System V ABI (gABI 4.3, "ELF Header", "Program Header"). A system loads a library if each LOAD
segment is aligned to at least the system's page size, and its offset in the file equals its address modulo that size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mbn_deploy.runtime.formats.flatbuffer import DamagedError

MAGIC = b"\x7fELF"
HEADER_BYTES = 64  # in the 64-bit form; the 32-bit one is shorter
_SHARED_OBJECT = 3  # e_type: ET_DYN
_LOAD = 1  # p_type: PT_LOAD
_SEGMENTS_LIMIT = 4096
# By bits: the fields e_type to e_phnum, which follow 16 bytes of identification; and a program header's fields, with
# the indices of p_offset, p_vaddr, p_filesz, p_memsz and p_align.
_HEADERS = {32: "HHIIIIIHHH", 64: "HHIQQQIHHH"}
_PROGRAM_HEADERS = {32: ("8I", (1, 2, 4, 5, 7)), 64: ("2I6Q", (2, 3, 5, 6, 7))}


@dataclass(frozen=True)
class Segment:
    """A part of the file that is mapped into memory; all fields are in bytes."""

    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int

    @property
    def page_size(self) -> int:
        """The largest page size that the segment can be mapped with.

        It is the stated alignment, unless offset and address differ modulo that: a program that only raises the stated
        alignment of a finished library leaves it so.
        """
        difference = self.offset - self.address
        fitting = difference & -difference or self.alignment
        return min(fitting, self.alignment)


@dataclass(frozen=True)
class Library:
    """A shared object: its e_machine, 32 or 64 bits, and its LOAD segments."""

    machine: int
    bits: int
    segments: tuple[Segment, ...]

    @property
    def page_size(self) -> int:
        """The largest page size, in bytes, of a system that can load the library."""
        return min(segment.page_size for segment in self.segments)


def read_library(part: Callable[[int, int], bytes]) -> Library:
    """Read the headers of a shared object.

    `part(start, length)` returns that many bytes of it, fewer at its end. Raises `DamagedError`.
    """
    head = part(0, HEADER_BYTES)
    if head[:4] != MAGIC or len(head) < 20:
        raise DamagedError("not an ELF file")
    bits = {1: 32, 2: 64}.get(head[4])
    order = {1: "<", 2: ">"}.get(head[5])
    if bits is None or order is None:
        raise DamagedError(f"ELF has no class {head[4]} with byte order {head[5]}")
    kind, machine, _, _, table_offset, _, _, _, width, count = _unpacked(order + _HEADERS[bits], head, 16)
    form, indices = _PROGRAM_HEADERS[bits]
    form = order + form
    if kind != _SHARED_OBJECT:
        raise DamagedError(f"an ELF file of type {kind}, not a shared object")
    if width != struct.calcsize(form) or not 0 < count <= _SEGMENTS_LIMIT:
        raise DamagedError(f"{count} program headers of {width} bytes")
    table = part(table_offset, width * count)
    headers = [_unpacked(form, table, width * index) for index in range(count)]
    segments = tuple(Segment(*(header[i] for i in indices)) for header in headers if header[0] == _LOAD)
    _check(segments)
    return Library(machine, bits, segments)


def _check(segments: tuple[Segment, ...]) -> None:
    if not segments:
        raise DamagedError("it has no LOAD segments")
    for segment in segments:
        if segment.alignment & (segment.alignment - 1):
            raise DamagedError(f"a LOAD segment is aligned to {segment.alignment}, which is not a power of two")


def _unpacked(form: str, data: bytes, at: int) -> tuple[int, ...]:
    if at + struct.calcsize(form) > len(data):
        raise DamagedError("its headers are cut off")
    return struct.unpack_from(form, data, at)
