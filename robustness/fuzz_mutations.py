"""Damage model files at random, by a seed: mostly the bytes that give a file its structure, rarely weights."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from mbn_deploy.runtime.formats.flatbuffer import root
from mbn_deploy.runtime.formats.protobuf import messages
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER

Random = np.random.Generator

# What a number of a format must not be able to be without somebody noticing.
EXTREMES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_STRUCTURE = 0.85  # this share of the damage hits the bytes between weights
_LARGE = 64  # bytes; constants that are smaller are shapes, biases, amounts of padding


@lru_cache(maxsize=64)
def structure(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions of an intact file's bytes that are not weights."""
    inside = np.ones(len(data), bool)
    for start, length in _weights(data):
        inside[start : start + length] = False
    return np.flatnonzero(inside)


def _weights(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (position, length) of large constants and of per-channel quantization parameters."""
    if data[4:8] == IDENTIFIER:
        model = root(data, IDENTIFIER)
        blobs = [buffer.vector(0, 1) for buffer in model.tables(4)]
        for described in model.tables(2)[0].tables(0):
            quantization = described.table(4)
            if quantization is not None:  # smallest and largest value, scales, zero points
                sizes = zip(range(4), (4, 4, 4, 8), strict=True)
                vectors = [(quantization.vector(field, width), width) for field, width in sizes]
                blobs += [(start, count * width) for (start, count), width in vectors]
        yield from (blob for blob in blobs if blob[1] > _LARGE)
        return
    at = 0
    for graph in messages(memoryview(data), 7):  # ModelProto.graph, .initializer, TensorProto.raw_data
        for tensor in messages(graph, 5):
            for raw in messages(tensor, 9):
                if len(raw) > _LARGE:
                    at = data.index(bytes(raw), at)
                    yield at, len(raw)


def damaged(path: Path, files: list[Path], seed: int, number: int) -> tuple[str, bytes]:
    """Return (kind of damage, damaged file), the same for the same seed, number and name; `files` are for splices."""
    rng = np.random.Generator(np.random.PCG64([seed, number, zlib.crc32(path.name.encode())]))
    data = path.read_bytes()
    choice = int(rng.integers(len(KINDS) + 1))
    changed = bytearray(data)
    if choice == len(KINDS):
        others = [other for other in files if other.suffix == path.suffix]
        return "splice", splice(changed, others[rng.integers(len(others))].read_bytes(), data, rng)
    damage = KINDS[choice]
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        damage(changed, data, rng)
    return damage.__name__, bytes(changed)


def _place(data: bytes, rng: Random, align: int = 1) -> int:
    places = structure(data)
    if rng.random() < _STRUCTURE:
        return int(places[rng.integers(len(places))]) // align * align
    return int(rng.integers(len(data))) // align * align


def bits(changed: bytearray, data: bytes, rng: Random) -> None:
    """Flip one bit."""
    changed[min(_place(data, rng), len(changed) - 1)] ^= 1 << int(rng.integers(8))


def byte(changed: bytearray, data: bytes, rng: Random) -> None:
    """Set one byte to any value, or change it by a small step."""
    at = min(_place(data, rng), len(changed) - 1)
    step = int(rng.integers(-3, 4))
    changed[at] = (changed[at] + step) % 256 if step and rng.random() < 0.5 else int(rng.integers(256))


def run(changed: bytearray, data: bytes, rng: Random) -> None:
    """Overwrite some bytes in a row with one value or random ones."""
    at, length = _place(data, rng), int(rng.integers(2, 40))
    content = rng.bytes(length) if rng.random() < 0.5 else bytes([int(rng.choice([0, 1, 0x7F, 0xFF]))]) * length
    _put(changed, at, content)


def word(changed: bytearray, data: bytes, rng: Random) -> None:
    """Set a 32-bit number to an extreme one, the file's size, or a position in it."""
    at = _place(data, rng, 4)
    choice = rng.integers(4)
    value = [EXTREMES[rng.integers(len(EXTREMES))], len(data), int(rng.integers(len(data))), int(rng.integers(1024))]
    _put(changed, at, int(value[choice]).to_bytes(4, "little"))


def half(changed: bytearray, data: bytes, rng: Random) -> None:
    """Set a 16-bit number, as vtables have them."""
    value = int(rng.choice([0, 2, 4, 6, 8, 0x7FFF, 0x8000, 0xFFFF, int(rng.integers(200))]))
    _put(changed, _place(data, rng, 2), value.to_bytes(2, "little"))


def field(changed: bytearray, data: bytes, rng: Random) -> None:
    """Set a small number of the structure to another one: a type, an index, a dimension, a stride."""
    for _ in range(100):
        at = _place(data, rng, 4)
        if at + 4 <= len(data) and int.from_bytes(data[at : at + 4], "little", signed=True) in range(-1, 4096):
            choices = [0, 1, 2, 3, -1, -2, 7, 13, 64, 255, 1000, 4096, 65535, 2**20, int(rng.integers(64))]
            _put(changed, at, int(rng.choice(choices)).to_bytes(4, "little", signed=True))
            return
    bits(changed, data, rng)


def varint(changed: bytearray, data: bytes, rng: Random) -> None:
    """Set five bytes to the largest number that a protobuf can hold there."""
    _put(changed, _place(data, rng), b"\xff\xff\xff\xff\x0f" if rng.random() < 0.5 else b"\xff" * 9 + b"\x01")


def name(changed: bytearray, data: bytes, rng: Random) -> None:
    """Change a letter of a name, which makes another reference or operation of it."""
    names = _names(data)
    if names:
        start, end = names[rng.integers(len(names))]
        at = int(rng.integers(start, end))
        if at < len(changed):
            changed[at] = int(rng.choice(np.frombuffer(b"AZaz019_/\x00\x01\xff", np.uint8)))


@lru_cache(maxsize=64)
def _names(data: bytes) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rb"[A-Za-z_/0-9.]{4,60}", data)]


def step(changed: bytearray, data: bytes, rng: Random) -> None:
    """Change a 32-bit count, index or length by one or a few."""
    for _ in range(100):
        at = _place(data, rng, 4)
        value = int.from_bytes(data[at : at + 4], "little")
        if at + 4 <= len(data) and 0 < value < 2048:
            _put(changed, at, max(0, value + int(rng.choice([1, 1, 2, -1, -1, -1, -2, -3]))).to_bytes(4, "little"))
            return
    bits(changed, data, rng)


def cut(changed: bytearray, data: bytes, rng: Random) -> None:
    """Cut off the end."""
    _ = data
    del changed[max(1, int(rng.integers(len(changed)))) :]


def missing(changed: bytearray, data: bytes, rng: Random) -> None:
    """Remove some bytes from the middle."""
    at = _place(data, rng)
    del changed[at : at + int(rng.integers(1, 64))]


def twice(changed: bytearray, data: bytes, rng: Random) -> None:
    """Repeat some bytes."""
    at, length = _place(data, rng), int(rng.integers(1, 300))
    changed[at:at] = data[at : at + length]


def moved(changed: bytearray, data: bytes, rng: Random) -> None:
    """Copy some bytes of the structure to another place of it."""
    length = int(rng.choice([4, 8, 16, 64, 256]))
    source = _place(data, rng, 4)
    _put(changed, _place(data, rng, 4), data[source : source + length])


KINDS: tuple[Callable[[bytearray, bytes, Random], None], ...] = (
    bits, byte, run, word, word, half, field, field, field, step, step, step, varint, name, cut, missing, twice, moved,
)  # fmt: skip


def splice(changed: bytearray, other: bytes, data: bytes, rng: Random) -> bytes:
    """Join the start of one file and the end of another, or put a part of it in the same place."""
    at = _place(data, rng, 4)
    if rng.random() < 0.5:
        return bytes(changed[:at]) + other[at:]
    length = int(rng.integers(4, 4096))
    _put(changed, at, other[at : at + length])
    return bytes(changed)


def _put(changed: bytearray, at: int, content: bytes) -> None:
    """Overwrite, without making the file longer."""
    content = content[: max(0, len(changed) - at)]
    changed[at : at + len(content)] = content
