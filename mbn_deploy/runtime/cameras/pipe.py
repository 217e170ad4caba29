"""Frames from a pipe: JPEGs one after the other (MJPEG), or raw rgb24, as ffmpeg and rpicam-vid write them.

rpicam-vid -t 0 --codec mjpeg -o - | mbn-deploy run dist --camera latest:-
ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | mbn-deploy run dist --camera - --frame-size 640x480
"""

from __future__ import annotations

import os
import re
import select

import numpy as np

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError, UsageError

READ = 2**20  # bytes asked for at once
JPEG_LIMIT = 2**26  # bytes without the end of a picture: this is no MJPEG, and memory is finite
_START, _SOI, _EOI, _SOS = b"\xff\xd8\xff", 0xD8, 0xD9, 0xDA  # markers: ITU-T T.81, table B.1
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # those without a length
# In entropy-coded data FF 00 is the byte FF, and FF D0 to D7 are restarts: neither ends it (T.81, B.1.1.5).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILL = re.compile(rb"\xff+")  # before a marker any number of FF may stand (T.81, B.1.1.2)


class JpegSplitter:
    """Cuts a stream of bytes into JPEGs by their markers: a thumbnail inside has an end of its own.

    What lies between pictures is skipped, and so is a picture that another one interrupts.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # of the next marker in a picture; 0: its start is looked for
        self._in_scan = False  # entropy-coded data lie before that marker, and must be searched for it
        self._skipped = 0

    def add(self, data: bytes) -> None:
        """Append what has come; raises `InputError` where no picture ends for too long."""
        self._data += data
        if len(self._data) + self._skipped > JPEG_LIMIT:
            raise InputError(f"no JPEG within {JPEG_LIMIT} bytes; raw frames need their size (--frame-size WxH)")

    @property
    def inside(self) -> bool:
        """Whether a picture has begun."""
        return self._at > 0

    def take(self) -> bytes | None:
        """The next whole JPEG; None until more comes."""
        while (self._at or self._find_start()) and (not self._in_scan or self._find_scan_end()):
            head = self._data[self._at : self._at + 4]
            if len(head) < 2:
                return None
            if head[0] != 0xFF:  # damaged, and its lengths with it: the next start may be anywhere
                self._cut(len(_START))
            elif head[1] == _SOI:
                self._cut(self._at)
            elif head[1] == _EOI:
                self._skipped = 0
                return self._cut(self._at + 2)
            elif head[1] == 0xFF:
                self._at = _FILL.search(self._data, self._at).end() - 1  # type: ignore[union-attr] # it is there
            elif head[1] in _STANDALONE:
                self._at += 2
            elif len(head) < 4:
                return None
            else:
                self._at += 2 + int.from_bytes(head[2:], "big")
                self._in_scan = head[1] == _SOS
        return None

    def _find_start(self) -> bool:
        start = self._data.find(_START)
        behind = start if start >= 0 else max(0, len(self._data) - len(_START) + 1)
        del self._data[:behind]
        self._skipped += behind
        self._at = 2 if start >= 0 else 0
        return start >= 0

    def _find_scan_end(self) -> bool:
        found = _MARKER.search(self._data, self._at)
        if found is None:
            self._at = max(self._at, len(self._data) - 1)  # the last byte may be half a marker
            return False
        self._at, self._in_scan = found.start(), False
        return True

    def _cut(self, end: int) -> bytes:
        picture = bytes(self._data[:end])
        del self._data[:end]
        self._at, self._in_scan = 0, False
        return picture


class _Pipe:
    """A file descriptor whose waiting reader can be woken."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._listen, self._wake = os.pipe()

    def ready(self) -> bool:
        """Wait until there is something to read, or the end; False when woken."""
        return self._listen not in select.select([self._descriptor, self._listen], [], [])[0]

    def wake(self) -> None:
        """End a `grab` that waits."""
        os.write(self._wake, b".")

    def release(self) -> None:
        """Close what was opened here: the descriptor itself is the caller's."""
        os.close(self._listen)
        os.close(self._wake)


class JpegPipe(_Pipe):
    """JPEGs one after the other. See `Feed`."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self.name = name
        self._splitter, self._jpeg = JpegSplitter(), b""

    def grab(self) -> bool:
        """Wait for a whole picture."""
        while (jpeg := self._splitter.take()) is None:
            if not self.ready():
                return False
            data = os.read(self._descriptor, READ)
            if not data:
                if self._splitter.inside:
                    raise InputError(f"{self.name}: ends inside a picture")
                return False
            self._splitter.add(data)
        self._jpeg = jpeg
        return True

    def retrieve(self) -> bytes:
        """The picture's bytes: whoever classifies decodes."""
        return self._jpeg


class RawPipe(_Pipe):
    """Frames of `size` (width, height) in rgb24: R, G, B of each pixel, rows from the top. See `Feed`."""

    def __init__(self, descriptor: int, name: str, size: tuple[int, int]) -> None:
        super().__init__(descriptor)
        self.name = name
        self._shape = (size[1], size[0], 3)
        self._frame: Pixels = np.empty(self._shape, np.uint8)

    def grab(self) -> bool:
        """Wait for a whole frame."""
        frame = np.empty(self._shape, np.uint8)  # a new one: who has the last one may still need it
        rest = frame.data.cast("B")
        while rest:
            if not self.ready():
                return False
            count = os.readv(self._descriptor, [rest])
            if not count:
                if len(rest) < frame.size:
                    raise InputError(
                        f"{self.name}: ends after {frame.size - len(rest)} of a frame's {frame.size} bytes"
                    )
                return False
            rest = rest[count:]
        self._frame = frame
        return True

    def retrieve(self) -> Pixels:
        """uint8 RGB (H, W, 3)."""
        return self._frame


def open_pipe(descriptor: int, size: tuple[int, int] | None, name: str = "stdin") -> JpegPipe | RawPipe:
    """JPEGs, or with a `size` (width, height) raw frames; the descriptor stays open when the feed is released."""
    if os.isatty(descriptor):
        raise UsageError(f"{name} is a terminal: pipe pictures into it, for example of rpicam-vid --codec mjpeg -o -")
    return JpegPipe(descriptor, name) if size is None else RawPipe(descriptor, name, size)
