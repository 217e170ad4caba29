"""One thread reads and classifies the camera's frames for all viewers; it stops when nobody is watching."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic
from typing import Literal

from PIL import Image

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import MbnError
from mbn_deploy.runtime.camera import FrameSource
from mbn_deploy.serve.engine import Classification, Engine
from mbn_deploy.serve.limits import Refusal

Opener = Callable[[], FrameSource]  # opens the source again

VIEW_SIDE = 800  # pixels: the longer side of a frame that is shown
KEPT = 4  # frames that are kept, so that a viewer can fetch the image of a frame it was told of
LINGER_SECONDS = 3.0  # the camera stays open for a page that is being reloaded
CLOSE_SECONDS = 3.0  # how long a source that hangs is waited for
FAILED = "the camera stopped because of a bug in this program or one of its packages; see the server's stderr"


@dataclass
class ClassifiedFrame:
    """A frame and its result; the JPEG is encoded once, when it is first asked for."""

    number: int
    pixels: Pixels = field(repr=False)
    result: Classification
    _jpeg: bytes | None = field(default=None, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def jpeg(self) -> bytes:
        """Return the frame as a JPEG with no side longer than `VIEW_SIDE`."""
        with self._lock:
            if self._jpeg is None:
                image, buffer = Image.fromarray(self.pixels), io.BytesIO()
                image.thumbnail((VIEW_SIDE, VIEW_SIDE))
                image.save(buffer, "JPEG", quality=80)
                self._jpeg = buffer.getvalue()
            return self._jpeg


@dataclass(frozen=True)
class StreamEnd:
    """Why there are no more frames: the source ended, or failed with `message`."""

    kind: Literal["end", "failed"]
    message: str = ""


class Camera:
    """The newest frame of a source, for a limited number of viewers.

    Its methods are called in the event loop, except for `classified_frames`.
    """

    def __init__(self, opener: Opener, engine: Engine, *, viewers: int, per_second: float) -> None:
        self.open, self._engine = opener, engine
        self._max_viewers, self._period = viewers, 1 / per_second
        self._viewers = 0
        self._run: _CameraRun | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._ended = False

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Viewer]:
        """Join as a viewer for the block; the camera runs while there are viewers.

        Raises `Refusal` 503 if there are too many viewers.
        """
        if self._viewers >= self._max_viewers or self._ended:
            raise Refusal(503, "busy", f"the camera already has {self._viewers} viewers; try again", retry=5)
        self._viewers += 1
        try:
            yield Viewer(self._start())
        finally:
            self._viewers -= 1
            if not self._viewers and self._run is not None:
                self._closing = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._run.stop)

    def _start(self) -> _CameraRun:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._run is None or self._run.is_over:
            self._run = _CameraRun(self, asyncio.get_running_loop(), self._run)
        return self._run

    @property
    def running(self) -> bool:
        """Whether the camera's thread is running."""
        return self._run is not None and not self._run.is_over

    def recent_frame(self, number: int) -> ClassifiedFrame | None:
        """Return a recent frame by its number; None if it is no longer kept."""
        recent = () if self._run is None else self._run.recent
        return next((frame for frame in recent if frame.number == number), None)

    async def close(self) -> None:
        """Stop the thread and end all streams; the camera cannot be watched again."""
        self._ended = True
        if self._run is not None:
            self._run.stop()
            await asyncio.get_running_loop().run_in_executor(None, self._run.join)

    def classified_frames(self, source: FrameSource, stopped: Event) -> Iterator[ClassifiedFrame]:
        """Yield classified frames, at most one in each period, until `stopped`; called in the camera's thread."""
        due = monotonic()
        for number, frame in enumerate(source, start=1):
            if stopped.is_set():
                return
            pixels, result = self._engine.classify_frame(frame)
            yield ClassifiedFrame(number, pixels, result)
            due = max(due + self._period, monotonic())
            if stopped.wait(due - monotonic()):
                return


class _CameraRun:
    """The camera from its opening to its closing: one thread, and what it published last."""

    def __init__(self, camera: Camera, loop: asyncio.AbstractEventLoop, before: _CameraRun | None) -> None:
        """Start the thread; the run `before`, which is over, releases the source first."""
        self._camera, self._loop = camera, loop
        self._stop = Event()
        self._news = asyncio.Event()
        self.latest: ClassifiedFrame | StreamEnd | None = None
        self.recent: deque[ClassifiedFrame] = deque(maxlen=KEPT)
        self._source: FrameSource | None = None
        self._thread = Thread(target=self._work, args=(before,), name="camera", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._stop.is_set() or isinstance(self.latest, StreamEnd)

    def stop(self) -> None:
        """Ask the thread to end, and tell the viewers."""
        self._stop.set()
        self._publish(StreamEnd("end"))
        if self._source is not None:  # its thread may be waiting for a frame that does not come
            Thread(target=self._source.close, name="camera's end", daemon=True).start()

    def join(self) -> None:
        self._thread.join(CLOSE_SECONDS)

    async def news(self) -> None:
        """Wait until `latest` changes."""
        await self._news.wait()

    def _work(self, before: _CameraRun | None) -> None:
        try:
            if before is not None:
                before.join()
            self._source = self._camera.open()
            try:
                if not self._stop.is_set():  # `stop` could not close the source while it was being opened
                    for frame in self._camera.classified_frames(self._source, self._stop):
                        self._publish_from_thread(frame)
            finally:
                self._source.close()
            self._publish_from_thread(StreamEnd("end"))
        except MbnError as error:
            self._publish_from_thread(StreamEnd("failed", str(error)))
        except BaseException:
            self._publish_from_thread(StreamEnd("failed", FAILED))
            raise

    def _publish_from_thread(self, latest: ClassifiedFrame | StreamEnd) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, latest)

    def _publish(self, latest: ClassifiedFrame | StreamEnd) -> None:
        if isinstance(self.latest, StreamEnd):
            return
        self.latest = latest
        if isinstance(latest, ClassifiedFrame):
            self.recent.append(latest)
        self._news.set()
        self._news = asyncio.Event()


class Viewer:
    """Follows the newest frames; a slow viewer misses frames, which are never queued for it."""

    def __init__(self, run: _CameraRun) -> None:
        self._run = run
        self._seen: ClassifiedFrame | StreamEnd | None = None

    async def next(self) -> ClassifiedFrame | StreamEnd:
        """Wait for a frame that this viewer has not seen; return the newest."""
        while (latest := self._run.latest) is None or latest is self._seen:
            await self._run.news()
        self._seen = latest
        return latest
