"""One thread reads and classifies the camera for every viewer, and stops when nobody looks."""

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
from mbn_deploy.serve.engine import Answer, Engine
from mbn_deploy.serve.limits import Refusal

Opener = Callable[[], FrameSource]  # opens the source anew

VIEW_SIDE = 800  # pixels: what is shown of a frame
KEPT = 4  # frames, so that a viewer who was told of one can still ask for its picture
LINGER_SECONDS = 3.0  # a page that is loaded again finds the camera still open
CLOSE_SECONDS = 3.0  # a source that hangs is left behind
FAILED = "the camera stopped because of a mistake in this program or a package; the server's stderr says more"


@dataclass
class Shot:
    """A frame and its answer; the JPEG is made when somebody wants it, once."""

    number: int
    pixels: Pixels = field(repr=False)
    answer: Answer
    _jpeg: bytes | None = field(default=None, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def jpeg(self) -> bytes:
        """The frame, no side longer than `VIEW_SIDE`."""
        with self._lock:
            if self._jpeg is None:
                image, made = Image.fromarray(self.pixels), io.BytesIO()
                image.thumbnail((VIEW_SIDE, VIEW_SIDE))
                image.save(made, "JPEG", quality=80)
                self._jpeg = made.getvalue()
            return self._jpeg


@dataclass(frozen=True)
class Over:
    """Why there are no more frames: the source ended, or failed with `message`."""

    kind: Literal["end", "failed"]
    message: str = ""


class Camera:
    """The newest frame of a source, for as many viewers as are allowed. Its methods belong to the event loop."""

    def __init__(self, opener: Opener, engine: Engine, *, viewers: int, per_second: float, top_k: int) -> None:
        self.open, self._engine, self._top_k = opener, engine, top_k
        self._most, self._period = viewers, 1 / per_second
        self._viewers = 0
        self._run: _Run | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._ended = False

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Viewer]:
        """A viewer's place; the camera runs while there is one. Raises `Refusal` 503 where all are taken."""
        if self._viewers >= self._most or self._ended:
            raise Refusal(503, "busy", f"{self._viewers} others watch the camera already; try again", retry=5)
        self._viewers += 1
        try:
            yield Viewer(self._started())
        finally:
            self._viewers -= 1
            if not self._viewers and self._run is not None:
                self._closing = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._run.stop)

    def _started(self) -> _Run:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._run is None or self._run.is_over:
            self._run = _Run(self, asyncio.get_running_loop(), self._run)
        return self._run

    @property
    def running(self) -> bool:
        """Whether the source is open."""
        return self._run is not None and not self._run.is_over

    def shot(self, number: int) -> Shot | None:
        """A frame that was shown just now, by its number."""
        recent = () if self._run is None else self._run.recent
        return next((shot for shot in recent if shot.number == number), None)

    async def close(self) -> None:
        """Stop the thread and let every viewer go; the camera cannot be watched again."""
        self._ended = True
        if self._run is not None:
            self._run.stop()
            await asyncio.get_running_loop().run_in_executor(None, self._run.join)

    def shots(self, source: FrameSource, stopped: Event) -> Iterator[Shot]:
        """Frames with answers, at most one a period, until `stopped`; in the camera's thread."""
        due = monotonic()
        for number, frame in enumerate(source, start=1):
            if stopped.is_set():
                return
            pixels, answer = self._engine.frame(frame, self._top_k)
            yield Shot(number, pixels, answer)
            due = max(due + self._period, monotonic())
            if stopped.wait(due - monotonic()):
                return


class _Run:
    """The camera from its opening to its closing: one thread, and what it published last."""

    def __init__(self, camera: Camera, loop: asyncio.AbstractEventLoop, before: _Run | None) -> None:
        """The one `before`, which is over, gives the source back first."""
        self._camera, self._loop = camera, loop
        self._stop = Event()
        self._news = asyncio.Event()
        self.latest: Shot | Over | None = None
        self.recent: deque[Shot] = deque(maxlen=KEPT)
        self._source: FrameSource | None = None
        self._thread = Thread(target=self._work, args=(before,), name="camera", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._stop.is_set() or isinstance(self.latest, Over)

    def stop(self) -> None:
        """Ask the thread to end, and say so to whoever watches."""
        self._stop.set()
        self._publish(Over("end"))
        if self._source is not None:  # its thread may be waiting for a frame that does not come
            Thread(target=self._source.close, name="camera's end", daemon=True).start()

    def join(self) -> None:
        self._thread.join(CLOSE_SECONDS)

    async def news(self) -> None:
        """Wait for the next change of `latest`."""
        await self._news.wait()

    def _work(self, before: _Run | None) -> None:
        try:
            if before is not None:
                before.join()
            self._source = self._camera.open()
            try:
                if not self._stop.is_set():  # `stop` while it was opened had nothing to close
                    for shot in self._camera.shots(self._source, self._stop):
                        self._tell(shot)
            finally:
                self._source.close()
            self._tell(Over("end"))
        except MbnError as error:
            self._tell(Over("failed", str(error)))
        except BaseException:
            self._tell(Over("failed", FAILED))
            raise

    def _tell(self, found: Shot | Over) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, found)

    def _publish(self, found: Shot | Over) -> None:
        if isinstance(self.latest, Over):
            return
        self.latest = found
        if isinstance(found, Shot):
            self.recent.append(found)
        self._news.set()
        self._news = asyncio.Event()


class Viewer:
    """Reads what comes next; a slow one misses frames and is never queued for."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._seen: Shot | Over | None = None

    async def next(self) -> Shot | Over:
        """The newest frame that this viewer has not seen, as soon as there is one."""
        while (latest := self._run.latest) is None or latest is self._seen:
            await self._run.news()
        self._seen = latest
        return latest
