"""The classifier behind the server: a limited number of images at a time, each with its timing."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Lock
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from mbn_deploy.answers import Meaning
from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.runtime.camera import Frame
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.decoding import Answer, answer_json
from mbn_deploy.runtime.image_checks.sizes import TooManyPixelsError
from mbn_deploy.runtime.images import Source, source_name, stored_format
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.serve.limits import Limits, Refusal

P = ParamSpec("P")
T = TypeVar("T")

# Images with more pixels than this are decoded one at a time; `Limits.pixels` explains how much memory one takes.
LARGE_PIXELS = 4_000_000


def _message(error: InputError, data: bytearray) -> str:
    """Return what is wrong with an upload, without its name: the client knows which file it was."""
    return str(error).removeprefix(f"{source_name(data)}: ")


def release_memory() -> None:
    """Make glibc return the memory of large images to the system, which it would keep (see malloc_trim(3)).

    Does nothing with other C libraries.
    """
    with suppress(OSError, TypeError, AttributeError):  # Windows, or another C library
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Classification:
    """The result for one image; `size` is (width, height) as stored in the file.

    `preprocess_ms` is the time of decoding and resizing in milliseconds, `inference_ms` that of the model with the
    normalization of its input and the ranking. Neither includes waiting for a turn.
    """

    answer: Answer
    meaning: Meaning
    size: tuple[int, int]
    preprocess_ms: float
    inference_ms: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value of `POST /classify`."""
        return {
            "meaning": self.meaning,
            **answer_json(self.answer, self.meaning),
            "image": {"width": self.size[0], "height": self.size[1]},
            "milliseconds": {"preprocess": round(self.preprocess_ms, 3), "inference": round(self.inference_ms, 3)},
        }


class Engine:
    """Classifies in worker threads, so that the event loop never waits for decoding or inference."""

    def __init__(self, classifier: Classifier, limits: Limits) -> None:
        self.classifier = classifier
        self._limits = limits
        self._workers = default_threads()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="classify")
        self._pending, self._in_threads = 0, 0
        self._counting = Lock()
        self._decoding, self._running = Lock(), Lock()
        # The classifier takes arrays as RGB, so pixels are passed on as RGB.
        self._preprocess = replace(classifier.info.preprocess, channels="rgb")

    def model_info(self) -> dict[str, Any]:
        """Return the description of the model for `GET /info`."""
        info = self.classifier.info
        return {
            "model": info.model,
            "format": info.format,
            "precision": info.precision,
            "backend": info.backend,
            "threads": info.threads,
            "input": {"width": info.size[1], "height": info.size[0]},
            "classes": info.classes,
            "meaning": info.answers.meaning,
        }

    def check_room(self) -> None:
        """Raise `Refusal` 503 if an image that arrived now would have to wait too long."""
        if self._pending >= self._workers + self._limits.waiting:
            raise Refusal(503, "busy", "too many images are waiting; try again", retry=1, unread=True)

    async def classify(self, data: bytearray, top_k: int | None, threshold: float | None = None) -> Classification:
        """Classify an image file; raises `Refusal` 413, 422 or 503."""
        self.check_room()
        return await self.in_thread(self._classify, data, top_k, threshold)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a worker thread, in its turn."""
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: self._counted(work, *args, **kwargs)
            )
        finally:
            self._pending -= 1

    @property
    def running(self) -> bool:
        """Whether a worker thread is at work, also if nobody waits for it any more."""
        return self._in_threads > 0

    def _counted(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._counting:
            self._in_threads += 1
        try:
            return work(*args, **kwargs)
        finally:
            with self._counting:
                self._in_threads -= 1

    def close(self) -> None:
        """Drop the images that wait. Those that are being classified are not waited for: see `running`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def classify_frame(self, frame: Frame) -> tuple[Pixels, Classification]:
        """Classify a camera's frame in the calling thread; return it as RGB uint8 (H, W, 3) with the result.

        Raises `InputError` for a damaged frame.
        """
        start = perf_counter()
        pixels = frame.rgb()
        return pixels, self._classify_source(pixels, (pixels.shape[1], pixels.shape[0]), None, None, start)

    def _classify(self, data: bytearray, top_k: int | None, threshold: float | None) -> Classification:
        try:
            kind, (width, height) = stored_format(data)
            count, most = width * height, self._limits.pixels_of(kind)
            if count > most:
                raise Refusal(
                    413,
                    "too_many_pixels",
                    f"{kind} image of {width} × {height} pixels; at most {most} pixels are decoded",
                )
            with self._turn(count):
                return self._classify_source(data, (width, height), top_k, threshold, perf_counter())
        except TooManyPixelsError as error:
            raise Refusal(413, "too_many_pixels", _message(error, data)) from None
        except InputError as error:
            raise Refusal(422, "unreadable", _message(error, data)) from None
        except MemoryError:
            raise Refusal(503, "busy", "not enough memory for this image now; try again", retry=5) from None

    @contextmanager
    def _turn(self, pixels: int) -> Iterator[None]:
        """Let large images be decoded one at a time only."""
        if pixels <= LARGE_PIXELS:
            yield
            return
        with self._decoding:
            try:
                yield
            finally:
                release_memory()

    def _classify_source(
        self, source: Source, size: tuple[int, int], top_k: int | None, threshold: float | None, start: float
    ) -> Classification:
        """Load and classify an image whose decoding began at `start`."""
        info = self.classifier.info
        pixels = load_pixels(source, info.size, self._preprocess, info.channels)
        loaded = perf_counter()
        with self._running:
            begun = perf_counter()
            answer = self.classifier.answer(pixels, top_k, threshold=threshold)
            done = perf_counter()
        return Classification(
            answer=answer,
            meaning=info.answers.meaning,
            size=size,
            preprocess_ms=(loaded - start) * 1e3,
            inference_ms=(done - begun) * 1e3,
        )
