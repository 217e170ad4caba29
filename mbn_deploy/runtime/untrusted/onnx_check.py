"""Check the structure of an .onnx file of unknown origin before an interpreter opens it.

One bounded walk over the protobuf (protobuf.dev, "Encoding"; field numbers of onnx.proto3) without the onnx package:
every message ends within the one around it, constants are as long as their shapes say, and no data lie outside of the
file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mbn_deploy.runtime.formats.flatbuffer import DamagedError, UnsuitableError, damage_named
from mbn_deploy.runtime.formats.protobuf import number_at, numbered

MOST_FIELDS = 500_000
DEEPEST = 50  # messages in messages; protobuf's own limit is 100
# The messages that can have constants in them: their fields with such messages, and of which kind these are.
_WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "constant", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "constant", 6: "graph", 10: "constant", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "constant", 2: "constant"},
}
_GRAPH, _NODES, _OUTPUTS = 7, 1, 12
# TensorProto: its fields, and the bits of a value by its data type, of those that have a size.
_DIMS, _TYPE, _NAME, _RAW, _LOCATION = 1, 2, 8, 9, 14
_EXTERNAL_DATA, _EXTERNAL = 13, 1
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4,
}  # fmt: skip
_COMPLEX = (14, 15)  # two numbers a value, where they are listed
# TensorProto's fields of numbers, and how long one is at least.
_LISTS = {4: 4, 5: 1, 7: 1, 10: 8, 11: 1}


def check_onnx(data: bytes, where: str) -> None:
    """Raise `InputError` that names `where` for a file whose lengths do not fit, or that needs other files."""
    with damage_named(where, "ONNX"):
        walk = _Walk()
        walk.check(memoryview(data), "model", 0)
        graphs = [value for number, value in numbered(memoryview(data)) if number == _GRAPH]
        if len(graphs) != 1 or not isinstance(graphs[0], memoryview):
            raise DamagedError(f"{len(graphs)} graphs")
        if not {_NODES, _OUTPUTS} <= {number for number, _ in numbered(graphs[0])}:
            raise DamagedError("there is no graph in it")


class _Walk:
    """One walk over a file; the number of fields that it may look at is bounded."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def check(self, data: memoryview, kind: str, depth: int) -> None:
        """Check a message and those in it that can have constants."""
        if depth > DEEPEST:
            raise DamagedError(f"more than {DEEPEST} messages lie in one another")
        if kind == "constant":
            self._constant(data)
            return
        for number, value in self._fields(data):
            inner = _WITHIN[kind].get(number)
            if inner is not None and isinstance(value, memoryview):
                self.check(value, inner, depth + 1)

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        for field in numbered(data):
            self._left -= 1
            if self._left < 0:
                raise DamagedError(f"more than {MOST_FIELDS} fields")
            yield field

    def _constant(self, data: memoryview) -> None:
        """Check a TensorProto: as many values as its shape says, in one of the two ways to store them."""
        fields: dict[int, list[int | memoryview]] = {}
        for number, value in self._fields(data):
            fields.setdefault(number, []).append(value)
        name = bytes(_last(fields, _NAME, memoryview(b""))).decode("utf-8", "replace")
        if _EXTERNAL_DATA in fields or _last(fields, _LOCATION, 0) == _EXTERNAL:
            raise UnsuitableError(f"the constant {name!r} lies in another file, where none is read from")
        kind = _last(fields, _TYPE, 0)
        bits = _BITS.get(kind, 0)
        dims = [n for value in fields.get(_DIMS, []) for n in _numbers(value)]
        if any(n < 0 for n in dims):
            raise DamagedError(f"the constant {name!r} has shape {dims}")
        if not bits:  # text, or a type of later days: the interpreter knows
            return
        count = math.prod(dims)
        listed = sum(_listed(value, width) for number, width in _LISTS.items() for value in fields.get(number, []))
        if _RAW in fields:
            raw = _last(fields, _RAW, memoryview(b""))
            if listed or len(raw) != (count * bits + 7) // 8:
                raise DamagedError(f"the constant {name!r} of shape {dims} has {len(raw)} bytes of data")
            return
        wanted = (count + 1) // 2 if bits < 8 else 2 * count if kind in _COMPLEX else count
        if listed not in {count, wanted}:
            raise DamagedError(f"the constant {name!r} of shape {dims} has {listed} values")


def _last(fields: dict[int, list[int | memoryview]], number: int, default: Any) -> Any:
    """Return the last value of a field, which must have the default's type."""
    value = fields.get(number, [default])[-1]
    if not isinstance(value, type(default)):
        raise DamagedError(f"field {number} of a constant is of another type")
    return value


def _numbers(value: int | memoryview) -> Sequence[int]:
    """Return the integers of one entry of a repeated field, which may be packed."""
    if isinstance(value, int):
        return [_signed(value)]
    if len(value) > 4096:
        raise DamagedError(f"a list of {len(value)} bytes where a shape is expected")
    integers, at = [], 0
    while at < len(value):
        number, at = number_at(value, at)
        integers.append(_signed(number))
    return integers


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _listed(value: int | memoryview, width: int) -> int:
    """Count the numbers of a packed list: of fixed width, or varints, whose last byte is below 128."""
    if isinstance(value, int):
        return 1
    return len(value) // width if width > 1 else sum(byte < 0x80 for byte in value)
