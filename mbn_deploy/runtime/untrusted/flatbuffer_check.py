"""Check that every reference, table and vector of a .tflite file is where the format allows it.

These are the checks of google/flatbuffers' verifier (internals.md, verifier.h): tables have the size that their vtable
states, vectors end within the file, strings have an end, everything is aligned, and the number of tables is bounded.
"""

from __future__ import annotations

import struct

from mbn_deploy.runtime.formats.flatbuffer import DamagedError
from mbn_deploy.runtime.untrusted.tflite_schema import OPTIONS, TABLES

MOST_TABLES = 200_000  # vectors may name one table as often as they like
_OPERATOR_OPTIONS = (3, 4)  # the fields of Operator: number of the options' kind, and the options


class StructureCheck:
    """One walk over a file."""

    def __init__(self, data: bytes) -> None:
        self._data, self._size = data, len(data)
        self._left = MOST_TABLES
        self._vtables: dict[tuple[int, int], tuple[int, ...]] = {}

    def run(self) -> None:
        """Check everything that the root refers to; raises `DamagedError`."""
        self._table(self._reference(0), "Model")

    def _table(self, at: int, kind: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise DamagedError(f"more than {MOST_TABLES} tables are named")
        offsets = self._offsets(at, kind)
        fields = TABLES[kind]
        for number, offset in enumerate(offsets[: len(fields)]):
            if offset:
                self._field(at + offset, fields[number])
        if kind == "Operator":
            self._options(at, offsets)

    def _options(self, at: int, offsets: tuple[int, ...]) -> None:
        kind_field, options_field = _OPERATOR_OPTIONS
        if len(offsets) <= options_field or not offsets[options_field]:
            return
        fields = OPTIONS.get(self._data[at + offsets[kind_field]] if offsets[kind_field] else 0, ())
        target = self._reference(at + offsets[options_field])
        table = self._offsets(target, "options")
        for field, offset in zip(fields, table, strict=False):
            if offset:
                self._within_table(offset, 4 if field.startswith("[") else int(field), target)
                self._field(target + offset, field)

    def _offsets(self, at: int, kind: str) -> tuple[int, ...]:
        """Return each field's offset from the table's start, 0 if the table omits it."""
        self._aligned(at, 4)
        vtable = at - int(self._number("<i", at, 4))
        self._aligned(vtable, 2)
        length, size = self._number("<H", vtable, 2), self._number("<H", vtable + 2, 2)
        if length < 4 or length % 2 or size < 4 or vtable + length > self._size or at + size > self._size:
            raise DamagedError(f"the table at byte {at} ({kind}) reaches beyond the end, or its vtable does")
        offsets = struct.unpack_from(f"<{length // 2 - 2}H", self._data, vtable + 4)
        fields = TABLES.get(kind, ())
        for number, offset in enumerate(offsets):
            if offset:
                field = fields[number] if number < len(fields) else "1"
                width = int(field) if field in ("1", "4", "8") else 4
                if offset < 4 or offset + width > size:
                    raise DamagedError(f"field {number} of the table at byte {at} ({kind}) lies outside of it")
        return offsets

    def _within_table(self, offset: int, width: int, at: int) -> None:
        vtable = at - int(self._number("<i", at, 4))
        if offset + width > self._number("<H", vtable + 2, 2):
            raise DamagedError(f"an option of the table at byte {at} lies outside of it")

    def _field(self, place: int, field: str) -> None:
        if field in ("1", "4", "8"):
            self._aligned(place, int(field))
        elif field == "union":
            self._offsets(self._reference(place), "union")
        elif field == "string":
            start, count = self._vector(self._reference(place), 1)
            if start + count >= self._size or self._data[start + count]:
                raise DamagedError(f"the string at byte {start} has no end")
        elif field.startswith("["):
            self._elements(self._reference(place), field[1:-1])
        else:
            self._table(self._reference(place), field)

    def _elements(self, at: int, kind: str) -> None:
        if kind in ("1", "4", "8"):
            start, count = self._vector(at, int(kind))
            if count:
                self._aligned(start, int(kind))
            return
        start, count = self._vector(at, 4)
        if count > self._left:
            raise DamagedError(f"{count} tables are named at byte {at}")
        for place in range(start, start + 4 * count, 4):
            self._table(self._reference(place), kind)

    def _vector(self, at: int, width: int) -> tuple[int, int]:
        self._aligned(at, 4)
        count = self._number("<I", at, 4)
        if at + 4 + count * width > self._size:
            raise DamagedError(f"{count} elements of {width} bytes at byte {at} reach beyond the end of the file")
        return at + 4, count

    def _reference(self, place: int) -> int:
        """Return the position that a reference leads to: forward, and not to itself."""
        offset = self._number("<I", place, 4)
        if not offset or offset >= 2**31:
            raise DamagedError(f"the reference at byte {place} points nowhere")
        return place + offset

    def _number(self, code: str, at: int, width: int) -> int:
        if at < 0 or at + width > self._size:
            raise DamagedError(f"byte {at} lies outside of its {self._size} bytes")
        value: int = struct.unpack_from(code, self._data, at)[0]
        return value

    def _aligned(self, at: int, width: int) -> None:
        if at % width:
            raise DamagedError(f"byte {at} is no place for a number of {width} bytes")
