"""Reading flatbuffers with bounds checks and without the flatbuffers package (google/flatbuffers, internals.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mbn_deploy.errors import InputError


class DamagedError(ValueError):
    """The bytes contradict the format."""


@dataclass(frozen=True)
class Table:
    """A flatbuffer table at `position` of `data`."""

    data: bytes
    position: int

    def table(self, field: int) -> Table | None:
        """The table that a field points to, None where it is not there."""
        place = self.place(field)
        return None if place is None else Table(self.data, place + _number(self.data, "<I", place))

    def tables(self, field: int) -> list[Table]:
        """A vector of tables, empty where it is not there."""
        start, count = self.vector(field, 4)
        return [Table(self.data, at + _number(self.data, "<I", at)) for at in range(start, start + 4 * count, 4)]

    def numbers(self, field: int, code: str) -> tuple[float, ...]:
        """A vector of numbers of struct's type `code`."""
        start, count = self.vector(field, struct.calcsize(code))
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def blob(self, field: int) -> bytes:
        """A vector of bytes, or a string."""
        start, count = self.vector(field, 1)
        return self.data[start : start + count]

    def text(self, field: int) -> str:
        """A string; what is no UTF-8 is replaced."""
        return self.blob(field).decode("utf-8", "replace")

    def scalar(self, field: int, code: str, default: int) -> int:
        """A number of struct's type `code`."""
        place = self.place(field)
        return default if place is None else _number(self.data, f"<{code}", place)

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """(position of the first element, count), (0, 0) where the field is not there."""
        place = self.place(field)
        if place is None:
            return 0, 0
        start = place + _number(self.data, "<I", place)
        count = _number(self.data, "<I", start)
        if start + 4 + count * width > len(self.data):
            raise DamagedError(f"{count} elements of {width} bytes at byte {start} reach beyond the end of the file")
        return start + 4, count

    def place(self, field: int) -> int | None:
        """Where a field lies in `data`, None where it is not there; a reference counts from its own place."""
        vtable = self.position - _number(self.data, "<i", self.position)
        slot = 4 + 2 * field
        if slot + 2 > _number(self.data, "<H", vtable):
            return None
        offset = _number(self.data, "<H", vtable + slot)
        return self.position + offset if offset else None


def _number(data: bytes, code: str, position: int) -> int:
    if position < 0 or position + struct.calcsize(code) > len(data):
        raise DamagedError(f"byte {position} lies outside of its {len(data)} bytes")
    value: int = struct.unpack_from(code, data, position)[0]
    return value


def root(data: bytes, identifier: bytes) -> Table:
    """The root table of a flatbuffer that begins with this file identifier."""
    if data[4:8] != identifier:
        raise DamagedError(f"the identifier {identifier.decode()} is not there")
    return Table(data, _number(data, "<I", 0))


@contextmanager
def damage_named(where: str, kind: str = "TFLite") -> Iterator[None]:
    """Makes `DamagedError` an `InputError` that names `where`."""
    try:
        yield
    except DamagedError as error:
        raise InputError(f"{where}: damaged, or no {kind} file: {error}") from None
