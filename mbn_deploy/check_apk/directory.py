"""The directory of a zip archive, compared with what it points to (PKWARE APPNOTE 6.3.10; AOSP libziparchive).

Android finds files by the central directory and maps them by their local headers, so each is compared with
the other: an archive whose two halves tell different stories is refused, as are encrypted and overlapping
files, names that lead outside, two files of one name, and sizes that no data could have.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from mbn_deploy.errors import InputError

STORED, DEFLATED = 0, 8
MAGIC = b"PK\x03\x04"
ENTRIES_LIMIT = 500_000
DIRECTORY_LIMIT = 96 * 2**20  # bytes of the central directory
DEFLATE_RATIO = 1032  # what deflate can pack at most (zlib's technical notes)
COARSEST = 16384  # the largest alignment that is told: the largest page of a phone

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_CENTRAL, _DESCRIPTOR = b"PK\x01\x02", b"PK\x07\x08"
_END_RECORD = struct.Struct("<4s4H2IH")
_END64_RECORD = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64_RECORD = struct.Struct("<4sIQI")
_CENTRAL_RECORD = struct.Struct("<4s6H3I5H2I")
_LOCAL_RECORD = struct.Struct("<4s5H3I2H")
_DESCRIPTOR_BYTES = 24  # at most
_COMMENT_LIMIT = 0xFFFF
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # the true value stands in a zip64 record
_ENCRYPTED, _HAS_DESCRIPTOR = 1, 8  # general purpose flags
_ZIP64 = 1  # id of an extra field


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file of an archive. `size` and `packed` are bytes; `offset` is where its data begin in the archive."""

    name: str
    method: int
    size: int
    packed: int
    crc: int
    offset: int = 0

    @property
    def stored(self) -> bool:
        """Whether the data lie in the archive as they are."""
        return self.method == STORED


@dataclass(frozen=True)
class Window:
    """`size` bytes of an open file from `start`: an archive, or one that is stored in another."""

    file: BinaryIO
    start: int
    size: int
    where: str

    def read(self, at: int, count: int) -> bytes:
        """`count` bytes from `at`; raises `InputError` where they are not there."""
        if at < 0 or count < 0 or at + count > self.size:
            raise self.wrong(f"damaged or cut off: bytes {at} to {at + count} of {self.size} are needed")
        try:
            self.file.seek(self.start + at)
            data = self.file.read(count)
        except OSError as error:
            raise self.wrong(f"cannot be read: {error.strerror or error}") from error
        if len(data) != count:
            raise self.wrong("it became shorter while it was read")
        return data

    def wrong(self, what: str, name: str | None = None) -> InputError:
        """The error that says `what` of the archive, or of the file `name` in it."""
        return InputError(f"{self.where}: {what}" if name is None else f"{self.where}: {name!r}: {what}")


class _Place(NamedTuple):
    """Where the directory lies."""

    entries: int
    size: int
    begin: int


class _Central(NamedTuple):
    """A record of the directory."""

    magic: bytes
    made_by: int
    needed: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name_bytes: int
    extra_bytes: int
    comment_bytes: int
    disk: int
    internal: int
    external: int
    header: int


class _Local(NamedTuple):
    """The record in front of a file's data."""

    magic: bytes
    needed: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name_bytes: int
    extra_bytes: int


class _Span(NamedTuple):
    """The bytes that a file takes, with its header and what lies behind its data."""

    begin: int
    end: int
    name: str


def read_directory(window: Window) -> dict[str, ZipEntry]:
    """The files of an archive by name, in the directory's order. Raises `InputError`."""
    place = _find(window)
    if place.entries == 0:
        raise window.wrong("an empty zip archive")
    if place.entries > ENTRIES_LIMIT or place.size > DIRECTORY_LIMIT:
        raise window.wrong(f"{place.entries} files in a directory of {place.size} bytes are more than are read")
    if window.read(0, len(MAGIC)) != MAGIC:  # as Android: something else in front would run as something else
        raise window.wrong("its first bytes are no file of a zip archive")
    data = window.read(place.begin, place.size)
    entries: dict[str, ZipEntry] = {}
    spans, at = [], 0
    for _ in range(place.entries):
        if at + _CENTRAL_RECORD.size > len(data):
            raise window.wrong("damaged: its directory ends within a file's record")
        record = _Central(*_CENTRAL_RECORD.unpack_from(data, at))
        at += _CENTRAL_RECORD.size
        texts = data[at : at + record.name_bytes + record.extra_bytes]
        at += record.name_bytes + record.extra_bytes + record.comment_bytes
        if record.magic != _CENTRAL or at > len(data):
            raise window.wrong("damaged: its directory has something else where a file's record should be")
        entry, span = _entry(window, record, texts, place.begin)
        if entry.name in entries:
            raise window.wrong("there are two files of this name; Android refuses such archives", entry.name)
        entries[entry.name] = entry
        spans.append(span)
    _check_overlaps(window, sorted(spans))
    return entries


def _find(window: Window) -> _Place:
    """From the records at the end; the last end record counts, and nothing but its comment may follow it."""
    tail_size = min(window.size, _END_RECORD.size + _COMMENT_LIMIT)
    tail = window.read(window.size - tail_size, tail_size)
    at = tail.rfind(_END)
    if at < 0 or at + _END_RECORD.size > len(tail):
        raise window.wrong("no zip archive, or its end is missing")
    _, disk, first, here, count, size, begin, comment = _END_RECORD.unpack_from(tail, at)
    end = window.size - tail_size + at
    if end + _END_RECORD.size + comment != window.size:
        raise window.wrong("bytes lie behind the end of the zip archive, or some are missing")
    if _FULL16 in (here, count) or _FULL32 in (size, begin):
        end, (_, _, _, _, disk, first, here, count, size, begin) = _record64(window, end)
    if disk or first or here != count:
        raise window.wrong("a zip archive in several parts")
    if begin + size > end or count * _CENTRAL_RECORD.size > size:
        raise window.wrong(f"damaged: a directory of {size} bytes at byte {begin} for {count} files")
    return _Place(count, size, begin)


def _record64(window: Window, end: int) -> tuple[int, tuple[int, ...]]:
    """(where the zip64 end record lies, its fields)."""
    locator = window.read(end - _LOCATOR64_RECORD.size, _LOCATOR64_RECORD.size)
    magic, _, place, _ = _LOCATOR64_RECORD.unpack(locator)
    record = _END64_RECORD.unpack(window.read(place, _END64_RECORD.size)) if magic == _LOCATOR64 else (b"",)
    if record[0] != _END64:
        raise window.wrong("damaged: its zip64 records are missing")
    return place, record


def _entry(window: Window, record: _Central, texts: bytes, directory: int) -> tuple[ZipEntry, _Span]:
    raw, extra = texts[: record.name_bytes], texts[record.name_bytes :]
    name = _name(window, raw)
    size, packed, header = _widened(window, name, extra, (record.size, record.packed, record.header))
    entry = ZipEntry(name, record.method, size, packed, record.crc)
    problem = _impossible(entry, record)
    if problem is not None:
        raise window.wrong(problem, name)
    local, texts, offset = _local(window, name, header, directory)
    if texts[: local.name_bytes] != raw:
        raise window.wrong(f"is called {texts[: local.name_bytes]!r} by its own header", name)
    if local.flags & _ENCRYPTED or local.method != entry.method:
        raise window.wrong("its own header says another compression than the directory", name)
    end = offset + packed
    if end > directory:
        raise window.wrong(f"its {packed} bytes reach into the directory", name)
    if local.flags & _HAS_DESCRIPTOR:
        end += _descriptor(window, entry, end, directory)
    else:
        said = _widened(window, name, texts[local.name_bytes :], (local.size, local.packed))
        if (local.crc, *said) != (entry.crc, size, packed):
            raise window.wrong("its own header says another size or checksum than the directory", name)
    return replace(entry, offset=offset), _Span(header, end, name)


def _name(window: Window, raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise window.wrong(f"the name {raw!r} is no UTF-8; Android refuses such archives") from None
    if not name or "\0" in name or "\\" in name or name.startswith("/") or ".." in name.split("/"):
        raise window.wrong("a name that leads outside of the archive, or none", name)
    return name


def _impossible(entry: ZipEntry, record: _Central) -> str | None:
    """What is wrong with a record by itself."""
    if record.flags & _ENCRYPTED:
        return "is encrypted; Android reads no encrypted files"
    if entry.method not in (STORED, DEFLATED):
        return f"is compressed by method {entry.method}; Android reads stored (0) and deflated (8) files"
    if record.disk:
        return "lies in another part of the archive"
    if entry.stored and entry.size != entry.packed:
        return f"is stored, but its {entry.packed} bytes are said to be {entry.size}"
    if entry.size > (entry.packed + 1) * DEFLATE_RATIO:
        return f"{entry.packed} bytes cannot unpack to {entry.size}; it may be a zip bomb"
    return None


def _widened(window: Window, name: str, extra: bytes, values: tuple[int, ...]) -> list[int]:
    """The values; those that 32 bits cannot say are taken from the zip64 field, which has them in this order."""
    wide: list[int] = []
    field = _zip64_field(extra) if _FULL32 in values else b""
    for value in values:
        if value != _FULL32:
            wide.append(value)
            continue
        if len(field) < 8:
            raise window.wrong("its zip64 field is missing or too short", name)
        wide.append(int.from_bytes(field[:8], "little"))
        field = field[8:]
    return wide


def _zip64_field(extra: bytes) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _local(window: Window, name: str, header: int, directory: int) -> tuple[_Local, bytes, int]:
    """A file's own header, its name and extra field, and where its data begin."""
    if header + _LOCAL_RECORD.size > directory:
        raise window.wrong(f"its header at byte {header} lies in or behind the directory", name)
    local = _Local(*_LOCAL_RECORD.unpack(window.read(header, _LOCAL_RECORD.size)))
    if local.magic != MAGIC:
        raise window.wrong(f"there is no file's header at byte {header}", name)
    texts = window.read(header + _LOCAL_RECORD.size, local.name_bytes + local.extra_bytes)
    return local, texts, header + _LOCAL_RECORD.size + len(texts)


def _descriptor(window: Window, entry: ZipEntry, at: int, directory: int) -> int:
    """Bytes of the record behind the data; its signature is optional, its sizes have 4 or 8 bytes."""
    found = window.read(at, min(_DESCRIPTOR_BYTES, directory - at))
    for signature, form in itertools.product((_DESCRIPTOR, b""), ("<I2I", "<I2Q")):
        if form == "<I2I" and max(entry.size, entry.packed) > _FULL32:
            continue
        said = signature + struct.pack(form, entry.crc, entry.packed, entry.size)
        if found.startswith(said):
            return len(said)
    raise window.wrong("the record behind its data says another size or checksum than the directory", entry.name)


def _check_overlaps(window: Window, spans: list[_Span]) -> None:
    for span, following in itertools.pairwise(spans):
        if span.end > following.begin:
            raise window.wrong(f"overlaps with {following.name!r}; it may be a zip bomb", span.name)
