"""The files of an Android archive, read by zipfile in bounded memory and without unpacking anything to the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO
from zipfile import ZipInfo

from mbn_deploy.archives import PAGE, ZIP_ERRORS, data_offset
from mbn_deploy.errors import InputError

MAGIC = b"PK\x03\x04"
UNPACKED_LIMIT = 2 * 2**30  # bytes that are unpacked out of one archive, all together
DIRECTORY_LIMIT = 24 * 2**20  # bytes of the central directory, some 200,000 files: zipfile keeps all of it in memory
_STEP = 2**18  # bytes that are unpacked at once
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UTF8_FLAG = 0x800


def is_stored(entry: ZipInfo) -> bool:
    """Return whether a file lies in the archive uncompressed."""
    return entry.compress_type == zipfile.ZIP_STORED


class ZipArchive:
    """An archive that is open for reading; `entries` maps names to files."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        """Read the directory of `file`; errors call it `where`.

        Raises:
            InputError: not a zip archive, a damaged one, or one that Android refuses.
        """
        self.where, self._file = where, file
        # A file is read at most twice: its first bytes, then all of it.
        self._budget = UNPACKED_LIMIT + 2 * file.seek(0, 2)
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{where}: not a zip archive, or an empty one")
        with _damage_named(where):
            self._zip = zipfile.ZipFile(_BoundedReads(file))
            listed = self._zip.infolist()
            self.entries = {_utf8_name(entry): entry for entry in listed}
        if len(self.entries) < len(listed):
            raise InputError(f"{where}: has two files of the same name; Android refuses such archives")
        for name, entry in self.entries.items():
            entry.filename = name
            self._check(entry)

    def _check(self, entry: ZipInfo) -> None:
        name = entry.filename
        if name.startswith("/") or ".." in name.split("/") or "\0" in name or "\\" in name:
            raise InputError(f"{self._place(entry)}: a name that leads outside of the archive")
        # zipfile unpacks other methods in one piece, so that memory would not be bounded.
        if entry.compress_type not in _METHODS:
            raise InputError(f"{self._place(entry)}: compressed by method {entry.compress_type}; Android reads 0 and 8")

    def alignment(self, entry: ZipInfo) -> int:
        """Return the largest power of two, up to `PAGE`, that divides the position of a file's data."""
        with _damage_named(self._place(entry)):
            offset = data_offset(self._file, entry)
        return min(offset & -offset, PAGE)

    def chunks(self, entry: ZipInfo) -> Iterator[bytes]:
        """Yield a file's data in pieces; raise `InputError` at the end if its size or checksum is wrong."""
        size = 0
        with self._opened(entry) as stream:
            while piece := self._read(stream, _STEP):
                size += len(piece)
                yield piece
        if size != entry.file_size:
            raise InputError(f"{self._place(entry)}: damaged: unpacks to {size} bytes, not {entry.file_size}")

    def read(self, entry: ZipInfo, limit: int) -> bytes:
        """Return all of a file's data; raise `InputError` if there are more than `limit` bytes."""
        if entry.file_size > limit:
            raise InputError(f"{self._place(entry)}: {entry.file_size} bytes; at most {limit} are read of such a file")
        return b"".join(self.chunks(entry))

    def part(self, entry: ZipInfo, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`, fewer at the end of the file; no checksum is compared."""
        with self._opened(entry) as stream:
            while start > 0 and (skipped := self._read(stream, min(start, _STEP))):
                start -= len(skipped)
            return self._read(stream, length)

    @contextmanager
    def _opened(self, entry: ZipInfo) -> Iterator[IO[bytes]]:
        with _damage_named(self._place(entry)), self._zip.open(entry) as stream:
            yield stream

    def _read(self, stream: IO[bytes], count: int) -> bytes:
        data = stream.read(count)
        self._budget -= len(data)
        if self._budget < 0:
            raise InputError(f"{self.where}: unpacks to more than {UNPACKED_LIMIT >> 30} GiB; it may be a zip bomb")
        return data

    def _place(self, entry: ZipInfo) -> str:
        return f"{self.where}: {entry.filename!r}"


@contextmanager
def open_zip(path: Path) -> Iterator[ZipArchive]:
    """Open the archive at `path`; raises `InputError` as `ZipArchive`."""
    try:
        file = path.open("rb")
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not an .apk, .aab or .aar file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        yield ZipArchive(file, str(path))


class _BoundedReads:
    """A file that gives at most `DIRECTORY_LIMIT` bytes at once: zipfile reads the directory in one piece."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable, self._file = file.seek, file.tell, file.seekable, file

    def read(self, count: int = -1) -> bytes:
        if count > DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"a directory of {count} bytes; at most {DIRECTORY_LIMIT} are read")
        return self._file.read(count)


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """Turn what zipfile raises about damaged archives into an `InputError` that names `where`."""
    try:
        yield
    except ZIP_ERRORS as error:
        raise InputError(f"{where}: damaged, or not a zip archive: {error}") from error


def _utf8_name(entry: ZipInfo) -> str:
    """Return the name as Android reads it: UTF-8, even where the flag is missing and zipfile assumes code page 437."""
    name = entry.orig_filename
    return name if entry.flag_bits & _UTF8_FLAG else name.encode("cp437").decode()
