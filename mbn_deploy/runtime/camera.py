"""Frames of cameras, videos, folders and pipes; a text such as `v4l2:/dev/video0` chooses the source.

    with frames("v4l2:/dev/video0") as source:
        for result in classifier.classify_stream(source):
            print(result.source.name, result.predictions[0])

Cameras (`FrameSource.live`) drop frames that nobody asked for, so that results never fall behind what the camera
sees; video files, folders and plain pipes lose none. See `SOURCES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Condition, Event, Lock, Thread
from types import TracebackType
from typing import Protocol

import numpy as np

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.runtime.image_checks.sizes import PIXEL_LIMIT, SIDE_LIMIT
from mbn_deploy.runtime.images import Source, decode_upright


@dataclass(frozen=True)
class SourceKind:
    """One kind of source.

    Attributes:
        usage: how it is written.
        about: what it is, for help texts.
        argument: a regular expression for the text after its name, with one group at most.
        live: whether it drops frames that nobody asked for.
    """

    usage: str
    about: str
    argument: str = field(repr=False)
    live: bool = False


SOURCES: dict[str, SourceKind] = {
    "picamera2": SourceKind(
        "picamera2[:N]", "camera N of a Raspberry Pi (default 0), read by picamera2", r"(?::(\d+))?", live=True
    ),
    "v4l2": SourceKind(
        "v4l2:/dev/videoN", "a USB camera or another video device of Linux, read by OpenCV", r":(.+)", live=True
    ),
    "video": SourceKind("video:FILE", "a video file, read by OpenCV", r":(.+)"),
    "folder": SourceKind("folder:DIR", "the images in a folder, sorted by name", r":(.+)"),
    "-": SourceKind("-", "stdin: a stream of JPEGs (MJPEG), or with a frame size raw rgb24 frames", r""),
    "latest": SourceKind(
        "latest:-", "stdin, for a program that must not wait: always the newest frame", r":-", live=True
    ),
}
STDIN = 0
Size = tuple[int, int]  # (width, height)
DEFAULT_SIZE = (640, 480)  # of cameras: more pixels than these models need, and every camera supports it


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        index: the frame's number, from 0; dropped frames are not counted.
        name: its name in outputs: a file's path, or the source and the index.
        image: the image as the source has it, so that nothing is decoded twice: uint8 RGB (H, W, 3) from cameras,
            videos and raw pipes, a path from folders, bytes from MJPEG.
    """

    index: int
    name: str
    image: Source

    def rgb(self) -> Pixels:
        """Return uint8 RGB (H, W, 3), decoded and turned upright; raises `InputError` for a damaged image."""
        if isinstance(self.image, np.ndarray):
            return self.image
        return decode_upright(self.image)


class Feed(Protocol):
    """The protocol of a kind of source. All methods but `wake` are called by one thread at a time."""

    name: str  # of the source, in outputs and errors

    def grab(self) -> bool:
        """Wait for the next frame; return False at the end. Raises `InputError` if the source fails."""

    def retrieve(self) -> Source:
        """Return the frame that was grabbed, decoded if the source decodes."""

    def wake(self) -> None:
        """Make a `grab` that waits return False soon; may be called by another thread."""

    def release(self) -> None:
        """Close the device or file."""


class FrameSource(Iterator[Frame]):
    """An opened source: an iterator of `Frame`, closed by `close` or at the end of a `with` block.

    Several threads may use it; they take turns. `close` also ends a `next` that is waiting.
    """

    def __init__(self, feed: Feed, *, live: bool = False) -> None:
        self.name, self.live = feed.name, live
        self._feed, self._count = feed, 0
        self._turn, self._closing, self._closed = Lock(), Lock(), Event()
        self._released = False

    def __next__(self) -> Frame:
        """Return the next frame; raises `InputError` if the source fails, for example a device is unplugged."""
        with self._turn:
            if self._closed.is_set():
                raise StopIteration
            try:
                image = self._read()
            except BaseException:
                self._closed.set()
                raise
            if image is None:
                self._closed.set()
                raise StopIteration
            index, self._count = self._count, self._count + 1
        name = str(image) if isinstance(image, str) else f"{self.name} #{index}"
        return Frame(index, name, image)

    def close(self) -> None:
        """Close the device or file; a `next` that is waiting in another thread ends first."""
        with self._closing:
            if self._released:
                return
            self._closed.set()
            self._feed.wake()
            with self._turn:
                self._release()
            self._released = True

    def __enter__(self) -> FrameSource:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> Source | None:
        return self._feed.retrieve() if self._feed.grab() else None

    def _release(self) -> None:
        self._feed.release()


class LatestFrames(FrameSource):
    """A source of live frames: `next` returns the next new frame, and frames that nobody asks for are dropped.

    A thread keeps grabbing, so that no queue (of the driver, of a pipe) fills with old frames. Only frames that are
    asked for are decoded.
    """

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed, live=True)
        self._changed = Condition()
        self._wanted, self._over = False, False
        self._image: Source | None = None
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name=f"frames of {feed.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed.is_set() and self._feed.grab():
                with self._changed:
                    if self._wanted:
                        self._image, self._wanted = self._feed.retrieve(), False
                        self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again where the frame is asked for
            self._error = error
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _read(self) -> Source | None:
        with self._changed:
            self._wanted = True
            self._changed.wait_for(lambda: self._over or not self._wanted)
            image, self._image = self._image, None
            if image is None and self._error is not None:
                raise self._error
            return image

    def _release(self) -> None:
        self._thread.join()
        self._feed.release()


def frames(source: str, *, size: Size | None = None) -> FrameSource:
    """Open a source of frames.

    Args:
        source: `picamera2[:N]`, `v4l2:/dev/videoN`, `video:FILE`, `folder:DIR`, `-` (stdin) or `latest:-`.
        size: (width, height). For cameras: the size to request, by default 640 × 480. For stdin: frames of raw rgb24
            in this size instead of JPEGs. Other sources have a size of their own.

    Raises:
        UsageError: unknown kind of source, or something is missing or superfluous in the text.
        InputError: the device, file or folder does not exist or cannot be opened.
        MissingExtraError: OpenCV or picamera2 is not installed; the message has the install line.
    """
    name = source.partition(":")[0]
    if name not in SOURCES:
        raise UnknownNameError("source of frames", source, [known.usage for known in SOURCES.values()])
    kind = SOURCES[name]
    match = re.fullmatch(kind.argument, source[len(name) :])
    if match is None:
        raise UsageError(f"source of frames {source!r}: write it as {kind.usage}")
    if size is not None and name in ("video", "folder"):
        raise UsageError(f"{source}: a frame size is for cameras and for raw frames on stdin, not for a {name}")
    if size is not None and not (min(size) >= 1 and max(size) <= SIDE_LIMIT and size[0] * size[1] <= PIXEL_LIMIT):
        raise UsageError(
            f"frame size {size[0]} × {size[1]}: a frame has from 1 to {SIDE_LIMIT} pixels on a side, "
            f"and at most {PIXEL_LIMIT} in all"
        )
    feed = _open_feed(name, match[1] if match.re.groups else None, size)
    return LatestFrames(feed) if name in ("v4l2", "latest") else FrameSource(feed, live=kind.live)


def parse_size(text: str) -> Size:
    """Parse `640x480` as (width, height); raises `UsageError`."""
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if match is None:
        raise UsageError(f"frame size {text!r}: write WIDTHxHEIGHT, for example 640x480")
    return int(match[1]), int(match[2])


def _open_feed(name: str, argument: str | None, size: Size | None) -> Feed:
    if name == "picamera2":
        from mbn_deploy.runtime.cameras.picamera2 import Picamera2Feed

        return Picamera2Feed(int(argument or 0), size or DEFAULT_SIZE)
    if name in ("v4l2", "video"):
        from mbn_deploy.runtime.cameras.opencv import open_device, open_video

        return open_device(str(argument), size or DEFAULT_SIZE) if name == "v4l2" else open_video(str(argument))
    if name == "folder":
        from mbn_deploy.runtime.cameras.folder import FolderFeed

        return FolderFeed(str(argument))
    from mbn_deploy.runtime.cameras.pipe import open_pipe

    return open_pipe(STDIN, size)
