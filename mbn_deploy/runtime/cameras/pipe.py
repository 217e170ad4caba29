"""Frames from a pipe: a stream of JPEGs (MJPEG) or of raw rgb24, as ffmpeg and rpicam-vid write them.

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

READ = 2**20  # bytes requested at once
JPEG_LIMIT = 2**26  # bytes of one JPEG; a longer one means that the stream is not MJPEG
_START, _SOI, _EOI, _SOS = b"\xff\xd8\xff", 0xD8, 0xD9, 0xDA  # markers: ITU-T T.81, table B.1
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
# In entropy-coded data FF 00 is the byte FF, and FF D0 to D7 are restarts: neither ends it (T.81, B.1.1.5).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILL = re.compile(rb"\xff+")  # any number of FF bytes may precede a marker (T.81, B.1.1.2)


class JpegSplitter:
    """Splits a stream of bytes into JPEGs.

    It follows their markers, since a thumbnail inside a JPEG has an end marker of its own. Bytes between
    images are skipped, and so is an image that another one interrupts.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # position of the next marker; 0 while the start of an image is searched
        self._in_scan = False  # inside entropy-coded data, which must be searched for that marker
        self._skipped = 0

    def add(self, data: bytes) -> None:
        """Append bytes of the stream; raises `InputError` if no image ends for too long."""
        self._data += data
        if len(self._data) + self._skipped > JPEG_LIMIT:
            raise InputError(f"no JPEG within {JPEG_LIMIT} bytes; give the size of raw frames (--frame-size WxH)")

    @property
    def inside(self) -> bool:
        """Whether an image has begun."""
        return self._at > 0

    def take(self) -> bytes | None:
        """Return the next complete JPEG, or None until more bytes come."""
        while (self._at or self._find_start()) and (not self._in_scan or self._find_scan_end()):
            head = self._data[self._at : self._at + 4]
            if len(head) < 2:
                return None
            if head[0] != 0xFF:  # damaged, so its lengths cannot be trusted: search for the next start
                self._cut(len(_START))
            elif head[1] == _SOI:
                self._cut(self._at)
            elif head[1] == _EOI:
                self._skipped = 0
                return self._cut(self._at + 2)
            elif head[1] == 0xFF:
                self._at = _FILL.search(self._data, self._at).end() - 1  # type: ignore[union-attr] # always matches
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
        skipped = start if start >= 0 else max(0, len(self._data) - len(_START) + 1)
        del self._data[:skipped]
        self._skipped += skipped
        self._at = 2 if start >= 0 else 0
        return start >= 0

    def _find_scan_end(self) -> bool:
        marker = _MARKER.search(self._data, self._at)
        if marker is None:
            self._at = max(self._at, len(self._data) - 1)  # the last byte may be half a marker
            return False
        self._at, self._in_scan = marker.start(), False
        return True

    def _cut(self, end: int) -> bytes:
        image = bytes(self._data[:end])
        del self._data[:end]
        self._at, self._in_scan = 0, False
        return image


class _Pipe:
    """A file descriptor; a reader that waits for it can be woken."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._listen, self._wake = os.pipe()

    def ready(self) -> bool:
        """Wait until there is something to read, or the end of the pipe; return False when woken."""
        return self._listen not in select.select([self._descriptor, self._listen], [], [])[0]

    def wake(self) -> None:
        """Make a `grab` that waits return False."""
        os.write(self._wake, b".")

    def release(self) -> None:
        """Close the pipe that wakes; the descriptor itself belongs to the caller."""
        os.close(self._listen)
        os.close(self._wake)


class JpegPipe(_Pipe):
    """A stream of JPEGs. See `Feed`."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self.name = name
        self._splitter, self._jpeg = JpegSplitter(), b""

    def grab(self) -> bool:
        """Wait for a complete image."""
        while (jpeg := self._splitter.take()) is None:
            if not self.ready():
                return False
            data = os.read(self._descriptor, READ)
            if not data:
                if self._splitter.inside:
                    raise InputError(f"{self.name}: ends inside an image")
                return False
            self._splitter.add(data)
        self._jpeg = jpeg
        return True

    def retrieve(self) -> bytes:
        """Return the image's bytes; they are decoded in the classifier's threads."""
        return self._jpeg


class RawPipe(_Pipe):
    """A stream of raw rgb24 frames of `size` (width, height): R, G, B of each pixel, rows from the top. See `Feed`."""

    def __init__(self, descriptor: int, name: str, size: tuple[int, int]) -> None:
        super().__init__(descriptor)
        self.name = name
        self._shape = (size[1], size[0], 3)
        self._frame: Pixels = np.empty(self._shape, np.uint8)

    def grab(self) -> bool:
        """Wait for a complete frame."""
        frame = np.empty(self._shape, np.uint8)  # a new one: the last one may still be in use
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
        """Return the frame as uint8 RGB (H, W, 3)."""
        return self._frame


def open_pipe(descriptor: int, size: tuple[int, int] | None, name: str = "stdin") -> JpegPipe | RawPipe:
    """Read JPEGs, or with a `size` (width, height) raw frames; releasing the feed leaves the descriptor open."""
    if os.isatty(descriptor):
        raise UsageError(f"{name} is a terminal: pipe images into it, for example from rpicam-vid --codec mjpeg -o -")
    return JpegPipe(descriptor, name) if size is None else RawPipe(descriptor, name, size)
