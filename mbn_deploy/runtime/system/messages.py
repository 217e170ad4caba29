"""Plain values and numpy arrays as bytes, for a pipe between two processes.

A message is two lengths (4 and 8 bytes, little endian), a JSON text and a body. The text is the value; bytes, arrays
and tuples stand in it as objects with one reserved key, and the contents of bytes and arrays lie in the body. Nothing
is pickled, and the reader checks every length before it believes it, so that a message may come from a process that
a damaged file has taken over.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from typing import IO, Any

LARGEST_TEXT = 2**20  # bytes of JSON that are read from a process that is not trusted
_LENGTHS = struct.Struct("<IQ")
_RESERVED = "\0"
_BYTES, _ARRAY, _TUPLE = "\0bytes", "\0array", "\0tuple"
_NUMBER_KINDS = "biuf"  # of numpy's dtypes: truth values, integers and floats


class MessageError(ValueError):
    """Bytes that are not a message, or a message larger than the reader allows."""


def write_message(pipe: IO[bytes], value: Any) -> None:
    """Write a value as one message.

    It may be None, a bool, an int, a float, a str, bytes, a numpy array of numbers, or a list, tuple or dict of these
    (keys of dicts are str and do not begin with NUL). Raises `TypeError` or `ValueError` for anything else, before
    anything is written; `OSError` if the other side is gone.
    """
    parts: list[bytes] = []
    text = json.dumps(_encoded(value, parts)).encode()
    pipe.write(_LENGTHS.pack(len(text), sum(map(len, parts))) + text)
    for part in parts:
        pipe.write(part)
    pipe.flush()


def read_message(pipe: IO[bytes], largest: int | None = None) -> Any:
    """Read one message and return its value.

    `largest` limits the bytes of the body, and with it the text is limited to `LARGEST_TEXT`. Raises `EOFError` at
    the end of the pipe, `MessageError` for what is no message or too large.
    """
    text_size, body_size = _LENGTHS.unpack(_read(pipe, _LENGTHS.size))
    if largest is not None and (text_size > LARGEST_TEXT or body_size > largest):
        raise MessageError(f"a message of {text_size} and {body_size} bytes")
    text, body = _read(pipe, text_size), _read(pipe, body_size)
    try:
        return json.loads(text, object_hook=lambda entry: _decoded(entry, body))
    except (ValueError, TypeError, RecursionError) as error:
        raise MessageError(f"no message: {error}") from None


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _encoded(value: Any, parts: list[bytes]) -> Any:
    """Replace what JSON does not know; contents of bytes and arrays are appended to `parts`."""
    if isinstance(value, list):
        return [_encoded(item, parts) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [_encoded(item, parts) for item in value]}
    if isinstance(value, dict):
        if any(not isinstance(key, str) or key.startswith(_RESERVED) for key in value):
            raise ValueError(f"keys of a message must be text that does not begin with NUL: {list(value)}")
        return {key: _encoded(item, parts) for key, item in value.items()}
    start = sum(map(len, parts))
    if isinstance(value, bytes):
        parts.append(value)
        return {_BYTES: [start, len(value)]}
    # Whoever has an array has imported numpy; a child that needs none does not import it for a message.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        if value.dtype.kind not in _NUMBER_KINDS:
            raise TypeError(f"an array of {value.dtype} cannot be sent to another process")
        parts.append(value.tobytes())
        return {_ARRAY: [start, value.dtype.str, list(value.shape)]}
    return value


def _decoded(entry: dict[str, Any], body: bytes) -> Any:
    """Undo `_encoded` for one object of the text."""
    key = next(iter(entry), "")
    if not key.startswith(_RESERVED):
        return entry
    if key == _TUPLE:
        return tuple(entry[key])
    if key == _BYTES:
        start, size = entry[key]
        return _part(body, start, size)
    start, dtype, shape = entry[key]
    return _array(body, start, dtype, shape)


def _part(body: bytes, start: int, size: int) -> bytes:
    if not 0 <= start <= start + size <= len(body):
        raise ValueError(f"{size} bytes at {start} of {len(body)}")
    return body[start : start + size]


def _array(body: bytes, start: int, dtype: str, shape: list[int]) -> Any:
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind not in _NUMBER_KINDS or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"an array of type {dtype} and shape {shape}")
    data = _part(body, start, math.prod(shape) * kind.itemsize)
    return np.frombuffer(data, kind).reshape(shape).copy()
