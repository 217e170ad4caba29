"""The files of a zip archive, in pieces: memory is bounded, and so is what a hostile archive unpacks to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbn_deploy.check_apk.directory import COARSEST, Window, ZipEntry, read_directory
from mbn_deploy.errors import InputError

INFLATED_LIMIT = 2 * 2**30  # bytes that are unpacked out of one archive, all together
_STEP = 2**18
_HEAD_STEP = 512  # packed bytes that are read at once for the first bytes of a file


class ZipArchive:
    """An archive that is open for reading. `entries` are its files, by name."""

    def __init__(self, window: Window) -> None:
        """Read and check the directory; raises `InputError` for a damaged or hostile one."""
        self._window, self._budget = window, INFLATED_LIMIT
        self.where = window.where
        self.entries = read_directory(window)

    def alignment(self, entry: ZipEntry) -> int:
        """The largest power of two, up to `COARSEST`, that divides the place of its data in the outermost file."""
        place = self._window.start + entry.offset
        return min(place & -place or COARSEST, COARSEST)

    def chunks(self, entry: ZipEntry) -> Iterator[bytes]:
        """A file's data in pieces; length and checksum are compared at the end. Raises `InputError`."""
        total, crc = 0, 0
        for piece in self._pieces(entry, _STEP):
            total, crc = total + len(piece), zlib.crc32(piece, crc)
            if total > entry.size:
                break
            yield piece
        if total != entry.size:
            raise self._wrong(entry, f"unpacks to another size than the {entry.size} bytes that are stated")
        if crc != entry.crc:
            raise self._wrong(entry, "its data do not have the checksum that is stated")

    def read(self, entry: ZipEntry, limit: int) -> bytes:
        """All of a file's data; raises `InputError` also where they are more than `limit` bytes."""
        if entry.size > limit:
            raise self._wrong(entry, f"its {entry.size} bytes are more than the {limit} that are read of such a file")
        return b"".join(self.chunks(entry))

    def part(self, entry: ZipEntry, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`, fewer at the end; no checksum is compared."""
        start = min(start, entry.size)
        length = min(length, entry.size - start)
        if entry.stored:
            return self._window.read(entry.offset + start, length)
        found, passed = bytearray(), 0
        for piece in self._pieces(entry, _HEAD_STEP if start + length <= _HEAD_STEP else _STEP):
            found += piece[max(0, start - passed) :]
            passed += len(piece)
            if passed >= start + length:
                break
        return bytes(found[:length])

    def _pieces(self, entry: ZipEntry, step: int) -> Iterator[bytes]:
        places = range(0, entry.packed, step)
        packed = (self._window.read(entry.offset + at, min(step, entry.packed - at)) for at in places)
        return packed if entry.stored else self._inflated(entry, packed, step)

    def _inflated(self, entry: ZipEntry, packed: Iterator[bytes], step: int) -> Iterator[bytes]:
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        pending = b""
        while not engine.eof:
            pending = pending or next(packed, b"")
            try:
                piece = engine.decompress(pending, step)
            except zlib.error as error:
                raise self._wrong(entry, f"its compressed data are damaged ({error})") from None
            if not pending and not piece and not engine.eof:
                raise self._wrong(entry, "its compressed data end too early")
            pending = engine.unconsumed_tail
            self._spend(len(piece))
            if piece:
                yield piece
        if engine.unused_data or next(packed, b""):
            raise self._wrong(entry, "bytes lie behind the end of its compressed data")

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise self._window.wrong(f"unpacks to more than {INFLATED_LIMIT >> 30} GiB; it may be a zip bomb")

    def _wrong(self, entry: ZipEntry, what: str) -> InputError:
        return self._window.wrong(what, entry.name)


@contextmanager
def open_zip(path: Path) -> Iterator[ZipArchive]:
    """The archive at `path`; raises `InputError` for what is none, is damaged, or is hostile."""
    try:
        file = path.open("rb")
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not an .apk, .aab or .aar file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        yield ZipArchive(Window(file, 0, file.seek(0, 2), str(path)))
