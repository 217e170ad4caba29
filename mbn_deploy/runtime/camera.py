"""Frames of cameras, videos, folders and pipes, from a source that is chosen by a text.

    with frames("v4l2:/dev/video0") as source:
        for result in classifier.classify_stream(source):
            print(result.source.name, result.predictions[0])

Cameras (`FrameSource.live`) drop frames that nobody asked for, so that answers never fall behind what
is seen; files, folders and plain pipes lose none. `SOURCES` says it of each.
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
from mbn_deploy.runtime.images import PIXEL_LIMIT, Source, decoded


@dataclass(frozen=True)
class SourceKind:
    """One kind of source: how it is written, what it is, whether it drops frames, and what follows its name."""

    usage: str
    about: str
    rest: str = field(repr=False)  # a regular expression with one group at most
    live: bool = False


SOURCES: dict[str, SourceKind] = {
    "picamera2": SourceKind(
        "picamera2[:N]", "camera N (0 if not said) of a Raspberry Pi, by picamera2", r"(?::(\d+))?", live=True
    ),
    "v4l2": SourceKind(
        "v4l2:/dev/videoN", "a USB camera or other video device of Linux, by OpenCV", r":(.+)", live=True
    ),
    "video": SourceKind("video:FILE", "a video file, by OpenCV", r":(.+)"),
    "folder": SourceKind("folder:DIR", "the images in a folder, sorted by name", r":(.+)"),
    "-": SourceKind("-", "stdin: JPEGs one after the other (MJPEG), or with a frame size raw rgb24", r""),
    "latest": SourceKind("latest:-", "the same from a program that must not wait: the newest frame", r":-", live=True),
}
STDIN = 0
Size = tuple[int, int]  # (width, height), as cameras and videos say it
DEFAULT_SIZE = (640, 480)  # of cameras: more than these models see, and every camera can do it


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        index: 0 for the first that the source gave; frames that were dropped don't count.
        name: what to call it in output: a file's path, or the source and the index.
        image: as the source has it, so that nothing is decoded twice: uint8 RGB (H, W, 3) of cameras,
            videos and raw pipes, a path of folders, bytes of MJPEG.
    """

    index: int
    name: str
    image: Source

    def rgb(self) -> Pixels:
        """uint8 RGB (H, W, 3), decoded and turned upright; raises `InputError` for a damaged picture."""
        if isinstance(self.image, np.ndarray):
            return self.image
        return decoded(self.image)


class Feed(Protocol):
    """What a kind of source must be able to do. One thread at a time, but for `wake`."""

    name: str  # of the whole source, in output and errors

    def grab(self) -> bool:
        """Wait for the next frame; False at the end. Raises `InputError` where the source fails."""

    def retrieve(self) -> Source:
        """The frame that was grabbed, decoded if the source decodes."""

    def wake(self) -> None:
        """Let a `grab` that waits return False soon; may be called by another thread."""

    def release(self) -> None:
        """Give the device or file back."""


class FrameSource(Iterator[Frame]):
    """An opened source: an iterator of `Frame`, closed by `close` or at the end of a `with` block.

    May be used from several threads, that take turns; `close` also ends a `next` that is waiting.
    """

    def __init__(self, feed: Feed, *, live: bool = False) -> None:
        self.name, self.live = feed.name, live
        self._feed, self._count = feed, 0
        self._turn, self._closing, self._closed = Lock(), Lock(), Event()
        self._released = False

    def __next__(self) -> Frame:
        """The next frame; raises `InputError` where the source fails, a device is unplugged."""
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
        """Give the device or file back; waits for a `next` in another thread, which ends soon."""
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
    """A source whose frames go by: who asks gets the next one, those before are grabbed and dropped.

    A thread of its own keeps grabbing, so that no queue (of the driver, of a pipe) fills with old
    frames; only what is asked for is decoded.
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
        except Exception as error:  # noqa: BLE001 - raised again where the frame was asked for
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
        source: one of `SOURCES`, as its `usage` says.
        size: (width, height). Of cameras: what to ask the driver for, by default `DEFAULT_SIZE`. Of
            stdin: raw rgb24 frames of this size come instead of JPEGs. Other sources have their own.

    Raises:
        UsageError: no such kind of source, something missing or superfluous in the text.
        InputError: no such device, file or folder, or it cannot be opened.
        MissingExtraError: OpenCV or picamera2 is not installed; has the install line.
    """
    name = source.partition(":")[0]
    if name not in SOURCES:
        raise UnknownNameError("source of frames", source, [known.usage for known in SOURCES.values()])
    kind = SOURCES[name]
    found = re.fullmatch(kind.rest, source[len(name) :])
    if found is None:
        raise UsageError(f"source of frames {source!r}: it is written {kind.usage}")
    if size is not None and name in ("video", "folder"):
        raise UsageError(f"{source}: a frame size is for cameras and for raw frames on stdin; a {name} has its own")
    if size is not None and not (min(size) >= 1 and size[0] * size[1] <= PIXEL_LIMIT):
        raise UsageError(f"a frame of {size[0]} × {size[1]} pixels; it has at least one, at most {PIXEL_LIMIT}")
    feed = _feed(name, found[1] if found.re.groups else None, size)
    return LatestFrames(feed) if name in ("v4l2", "latest") else FrameSource(feed, live=kind.live)


def parse_size(text: str) -> Size:
    """`640x480` as (640, 480); raises `UsageError`."""
    found = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if found is None:
        raise UsageError(f"frame size {text!r}: WIDTHxHEIGHT is expected, for example 640x480")
    return int(found[1]), int(found[2])


def _feed(name: str, which: str | None, size: Size | None) -> Feed:
    if name == "picamera2":
        from mbn_deploy.runtime.cameras.picamera2 import Picamera2Feed

        return Picamera2Feed(int(which or 0), size or DEFAULT_SIZE)
    if name in ("v4l2", "video"):
        from mbn_deploy.runtime.cameras.opencv import open_device, open_video

        return open_device(str(which), size or DEFAULT_SIZE) if name == "v4l2" else open_video(str(which))
    if name == "folder":
        from mbn_deploy.runtime.cameras.folder import FolderFeed

        return FolderFeed(str(which))
    from mbn_deploy.runtime.cameras.pipe import open_pipe

    return open_pipe(STDIN, size)
