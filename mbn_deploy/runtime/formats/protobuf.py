"""Read and write protobuf messages field by field (protobuf.dev, "Encoding"), without the protobuf package."""

from __future__ import annotations

from collections.abc import Iterator

from mbn_deploy.runtime.formats.flatbuffer import DamagedError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MORE, _LOW = 0x80, 0x7F


def messages(data: memoryview, field: int) -> list[memoryview]:
    """Return the values of a field of strings, bytes or messages, in their order. Raises `DamagedError`."""
    return [value for number, value in numbered(data) if number == field and isinstance(value, memoryview)]


def numbers(data: memoryview, field: int) -> list[int]:
    """Return the values, unsigned, of a field of integers that are not packed. Raises `DamagedError`."""
    return [value for number, value in numbered(data) if number == field and isinstance(value, int)]


def texts(data: memoryview, field: int) -> list[str]:
    """Return the values of a field of strings; bytes that are no UTF-8 are replaced."""
    return [bytes(value).decode("utf-8", "replace") for value in messages(data, field)]


def text(data: memoryview, field: int) -> str:
    """Return a string field: the last of several, empty if there is none."""
    return next(reversed(texts(data, field)), "")


def encoded(field: int, value: bytes) -> bytes:
    """Encode a field of bytes, a string or a message."""
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def encoded_number(field: int, value: int) -> bytes:
    """Encode a field of an unsigned integer or of an enumeration."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def numbered(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field in their order; numbers of fixed width as if they were unsigned."""
    return ((number, value) for number, value, _ in wired(data))


def wired(data: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """Yield what `numbered` does, and the bytes of the whole field, with its number."""
    at = 0
    while at < len(data):
        start = at
        key, at = number_at(data, at)
        kind, size = key & 7, 0
        if kind == _VARINT:
            number, at = number_at(data, at)
            yield key >> 3, number, data[start:at]
            continue
        if kind == _BYTES:
            size, at = number_at(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise DamagedError(f"wire type {kind} at byte {at}")
        if at + size > len(data):
            raise DamagedError(f"{size} bytes at byte {at} reach beyond the end of {len(data)}")
        value = data[at : at + size]
        at += size
        yield key >> 3, value if kind == _BYTES else int.from_bytes(value, "little"), data[start:at]


def number_at(data: memoryview, at: int) -> tuple[int, int]:
    """Read the varint at byte `at`; return it and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        value, at = value | (byte & _LOW) << shift, at + 1
        if not byte & _MORE:
            return value, at
    raise DamagedError(f"a number at byte {at} has no end")


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > _LOW:
        data.append(value & _LOW | _MORE)
        value >>= 7
    data.append(value)
    return bytes(data)
