"""Read flatbuffers with bounds checks and without the flatbuffers package (google/flatbuffers, internals.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mbn_deploy.errors import InputError


class DamagedError(ValueError):
    """Bytes that contradict their format."""


class UnsuitableError(ValueError):
    """A sound file that this program does not run; the text says why, as the rest of a sentence about the file."""


MOST_NUMBERS = 2**22  # in one vector; shapes, scales and lists of operators have some thousand
# What may be read of a file in all: a hostile one names a long vector again and again, and each time it would be read.
_READINGS, _LEAST_BUDGET = 16, 2**26  # of the whole file; bytes


class _Budget:
    """How many bytes of vectors may still be read; shared by all tables of one root."""

    def __init__(self, size: int) -> None:
        self._left = _READINGS * size + _LEAST_BUDGET

    def take(self, size: int) -> None:
        """Count bytes that are read; raises `DamagedError` if there were too many."""
        self._left -= size
        if self._left < 0:
            raise DamagedError("long vectors are named again and again")


@dataclass(frozen=True)
class Table:
    """A flatbuffer table at the byte `position` of `data`.

    Fields are numbered in the order of their declaration in the schema. Methods raise `DamagedError` for references
    and lengths that lead outside of `data`, and when much more was read than a file of this size has.
    """

    data: bytes
    position: int
    budget: _Budget = field(compare=False, repr=False)

    def table(self, field: int) -> Table | None:
        """Return the table that a field refers to, or None if this table omits the field."""
        position = self.field_position(field)
        return None if position is None else self._at(position)

    def tables(self, field: int) -> list[Table]:
        """Return the tables of a vector field, none if this table omits it."""
        start, count = self.vector(field, 4)
        self.budget.take(4 * count)
        return [self._at(place) for place in range(start, start + 4 * count, 4)]

    def numbers(self, field: int, code: str) -> tuple[float, ...]:
        """Return the numbers of a vector field; `code` is their type in `struct`."""
        start, count = self.vector(field, struct.calcsize(code))
        if count > MOST_NUMBERS:
            raise DamagedError(f"a vector of {count} numbers")
        self.budget.take(struct.calcsize(code) * count)
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def blob(self, field: int) -> bytes:
        """Return the bytes of a vector or string field."""
        start, count = self.vector(field, 1)
        self.budget.take(count)
        return self.data[start : start + count]

    def text(self, field: int) -> str:
        """Return a string field; bytes that are no UTF-8 are replaced."""
        return self.blob(field).decode("utf-8", "replace")

    def scalar(self, field: int, code: str, default: int) -> int:
        """Return a number field, or `default` if this table omits it; `code` is its type in `struct`."""
        position = self.field_position(field)
        return default if position is None else _number(self.data, f"<{code}", position)

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Return the byte position of a vector's first element and the number of elements; (0, 0) if it is omitted."""
        position = self.field_position(field)
        if position is None:
            return 0, 0
        start = position + _number(self.data, "<I", position)
        count = _number(self.data, "<I", start)
        if start + 4 + count * width > len(self.data):
            raise DamagedError(f"{count} elements of {width} bytes at byte {start} reach beyond the end of the file")
        return start + 4, count

    def _at(self, place: int) -> Table:
        """Return the table that the reference at a byte leads to."""
        return Table(self.data, place + _number(self.data, "<I", place), self.budget)

    def field_position(self, field: int) -> int | None:
        """Return the byte position of a field, or None if this table omits it.

        References stored in a field are relative to that position.
        """
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
    """Return the root table; raises `DamagedError` if the file identifier is another one."""
    if data[4:8] != identifier:
        raise DamagedError(f"the identifier {identifier.decode()} is not there")
    return Table(data, _number(data, "<I", 0), _Budget(len(data)))


@contextmanager
def damage_named(where: str, kind: str = "TFLite", *, unsuitable: bool = True) -> Iterator[None]:
    """Turn a `DamagedError`, and an `UnsuitableError` unless told otherwise, into an `InputError` about `where`."""
    try:
        yield
    except UnsuitableError as error:
        if not unsuitable:
            raise
        raise InputError(f"{where}: {error}") from None
    except DamagedError as error:
        raise InputError(f"{where}: damaged, or no {kind} file: {error}") from None
