"""What a .tflite file says about itself, read without the flatbuffers package.

Two kinds of metadata matter: this project's `Description` (JSON in a metadata buffer), and Google's
TFLITE_METADATA (tensorflow/tflite-support, metadata_schema.fbs 1.1.0, identifier M001) whose label
files lie in a zip archive that is appended to the model.

The field numbers below are the declaration orders in that schema and in TensorFlow Lite's schema.fbs.
Everything is bounds-checked: a damaged file gives `InputError` before an interpreter sees it.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.labels import parse_labels

IDENTIFIER = b"TFL3"
GOOGLE_KEY = "TFLITE_METADATA"
GOOGLE_IDENTIFIER = b"M001"
SCHEMA_VERSION = 3
LABELS_LIMIT = 4 * 2**20  # bytes of an unpacked labels file: a zip archive can claim to hold anything

# What zipfile raises for damaged archives: it seeks and unpacks without checking first.
_ZIP_ERRORS = (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RuntimeError, struct.error, zlib.error)
_NORMALIZATION = 1  # ProcessUnitOptions
_AXIS_LABELS = 2  # AssociatedFileType


class _DamagedError(ValueError):
    """The bytes contradict the format."""


@dataclass(frozen=True)
class _Table:
    """A flatbuffer table at `position` of `data`."""

    data: bytes
    position: int

    def table(self, field: int) -> _Table | None:
        place = self._field(field)
        return None if place is None else _Table(self.data, place + _number(self.data, "<I", place))

    def tables(self, field: int) -> list[_Table]:
        start, count = self.vector(field, 4)
        return [_Table(self.data, at + _number(self.data, "<I", at)) for at in range(start, start + 4 * count, 4)]

    def numbers(self, field: int, code: str) -> tuple[float, ...]:
        start, count = self.vector(field, struct.calcsize(code))
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def blob(self, field: int) -> bytes:
        start, count = self.vector(field, 1)
        return self.data[start : start + count]

    def text(self, field: int) -> str:
        return self.blob(field).decode("utf-8", "replace")

    def scalar(self, field: int, code: str, default: int) -> int:
        place = self._field(field)
        return default if place is None else _number(self.data, f"<{code}", place)

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """(position of the first element, count), (0, 0) where the field is not there."""
        place = self._field(field)
        if place is None:
            return 0, 0
        start = place + _number(self.data, "<I", place)
        count = _number(self.data, "<I", start)
        if start + 4 + count * width > len(self.data):
            raise _DamagedError(f"{count} elements of {width} bytes at byte {start} reach beyond the end of the file")
        return start + 4, count

    def _field(self, field: int) -> int | None:
        vtable = self.position - _number(self.data, "<i", self.position)
        slot = 4 + 2 * field
        if slot + 2 > _number(self.data, "<H", vtable):
            return None
        offset = _number(self.data, "<H", vtable + slot)
        return self.position + offset if offset else None


def _number(data: bytes, code: str, position: int) -> int:
    if position < 0 or position + struct.calcsize(code) > len(data):
        raise _DamagedError(f"byte {position} lies outside of its {len(data)} bytes")
    value: int = struct.unpack_from(code, data, position)[0]
    return value


def _root(data: bytes, identifier: bytes) -> _Table:
    if data[4:8] != identifier:
        raise _DamagedError(f"the identifier {identifier.decode()} is not there")
    return _Table(data, _number(data, "<I", 0))


@contextmanager
def _errors_name(where: str) -> Iterator[None]:
    try:
        yield
    except _DamagedError as error:
        raise InputError(f"{where}: damaged, or no TFLite file: {error}") from None


def read_metadata(data: bytes, where: str) -> dict[str, bytes]:
    """The metadata buffers of a .tflite file by name, after its structure was checked.

    Raises `InputError` for what an interpreter could stumble over: no identifier, another schema
    version, buffers that reach beyond the end (a truncated file), indices without a target.
    """
    with _errors_name(where):
        model = _root(data, IDENTIFIER)
        version = model.scalar(0, "I", 0)
        if version != SCHEMA_VERSION:
            raise _DamagedError(f"schema version {version}, not {SCHEMA_VERSION}")
        buffers = model.tables(4)
        for buffer in buffers:
            _check_buffer(buffer)
        graphs = model.tables(2)
        if not graphs:
            raise _DamagedError("there is no graph in it")
        for graph in graphs:
            _check_graph(graph, len(buffers), len(model.tables(1)))
        entries = [(entry.text(0), entry.scalar(1, "I", 0)) for entry in model.tables(6)]
        _check_indices("metadata buffer", (index for _, index in entries), len(buffers))
        return {name: buffers[index].blob(0) for name, index in entries}


def _check_buffer(buffer: _Table) -> None:
    buffer.vector(0, 1)
    offset, size = buffer.scalar(1, "Q", 0), buffer.scalar(2, "Q", 0)  # data behind the flatbuffer
    if offset + size > len(buffer.data):
        raise _DamagedError(f"a buffer of {size} bytes at byte {offset} reaches beyond the end of the file")


def _check_graph(graph: _Table, buffers: int, codes: int) -> None:
    tensors = graph.tables(0)
    _check_indices("buffer", (tensor.scalar(2, "I", 0) for tensor in tensors), buffers)
    for field in (1, 2):  # inputs, outputs
        _check_indices("tensor", graph.numbers(field, "i"), len(tensors))
    for operator in graph.tables(3):
        _check_indices("operator code", [operator.scalar(0, "I", 0)], codes)
        for field in (1, 2):
            _check_indices("tensor", (i for i in operator.numbers(field, "i") if i != -1), len(tensors))


def _check_indices(what: str, indices: Iterator[float] | list[int] | tuple[float, ...], count: int) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise _DamagedError(f"{what} {index} is named, there are {count}")


@dataclass(frozen=True)
class GoogleMetadata:
    """What TFLITE_METADATA says of the first input and output; None where it says nothing.

    x = (pixel - mean) / std, one number or one a channel. It never says how a picture is resized.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None


def google_metadata(buffer: bytes, data: bytes, where: str) -> GoogleMetadata:
    """Read the metadata `buffer` of the file `data`; raises `InputError` where it is damaged."""
    with _errors_name(f"{where}: {GOOGLE_KEY}"):
        graphs = _root(buffer, GOOGLE_IDENTIFIER).tables(3)
        if not graphs:
            return GoogleMetadata()
        mean, std = _normalization(graphs[0].tables(2))
        name = _labels_name(graphs[0].tables(3))
    labels = None if name is None else parse_labels(_packed_file(data, name, where), f"{where}: {name}")
    return GoogleMetadata(mean, std, labels)


def _normalization(inputs: list[_Table]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    for unit in inputs[0].tables(4) if inputs else []:
        options = unit.table(1)
        if options is not None and unit.scalar(0, "B", 0) == _NORMALIZATION:
            return options.numbers(0, "f") or None, options.numbers(1, "f") or None
    return None, None


def _labels_name(outputs: list[_Table]) -> str | None:
    files = outputs[0].tables(6) if outputs else []
    return next((file.text(0) for file in files if file.scalar(2, "b", 0) == _AXIS_LABELS), None)


def _packed_file(data: bytes, name: str, where: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.getinfo(name).file_size > LABELS_LIMIT:
                raise InputError(f"{where}: the labels file {name!r} inside is larger than {LABELS_LIMIT} bytes")
            return archive.read(name)
    except _ZIP_ERRORS as error:
        raise InputError(
            f"{where}: its metadata name the labels file {name!r}, which cannot be read: {error}"
        ) from None
