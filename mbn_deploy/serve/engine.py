"""The classifier behind the server: so many pictures at a time, and what each of them took."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from threading import Lock
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.runtime.camera import Frame
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.images import Source, TooManyPixelsError, source_name, stored_format
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.ranking import Prediction
from mbn_deploy.serve.limits import Limits, Refusal

P = ParamSpec("P")
T = TypeVar("T")

# Pictures above this many pixels are decoded one at a time; `Limits.pixels` says what one takes.
LARGE_PIXELS = 4_000_000


def _about(error: InputError, data: bytearray) -> str:
    """What is wrong with an upload: the client knows best what it was."""
    return str(error).removeprefix(f"{source_name(data)}: ")


def give_memory_back() -> None:
    """Let glibc return what large pictures took: it keeps freed blocks (malloc_trim(3)). Elsewhere does nothing."""
    with suppress(OSError, TypeError, AttributeError):  # no such library, Windows, another C library
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Answer:
    """What is said of one picture; `size` is (width, height) as stored in the file, times are milliseconds.

    `preprocess_ms` is decoding and resizing, `inference_ms` the model with its input's normalization and
    the ranking; waiting for a turn is in neither.
    """

    predictions: list[Prediction]
    size: tuple[int, int]
    preprocess_ms: float
    inference_ms: float

    def to_json(self) -> dict[str, Any]:
        """As `POST /classify` gives it."""
        return {
            "predictions": [asdict(prediction) for prediction in self.predictions],
            "image": {"width": self.size[0], "height": self.size[1]},
            "milliseconds": {"preprocess": round(self.preprocess_ms, 3), "inference": round(self.inference_ms, 3)},
        }


class Engine:
    """Classifies in threads of its own; the event loop never waits for pixels."""

    def __init__(self, classifier: Classifier, limits: Limits) -> None:
        self.classifier = classifier
        self._limits = limits
        self._workers = default_threads()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="classify")
        self._pending = 0
        self._decoding, self._running = Lock(), Lock()
        # Pixels are handed on as RGB, which is what the classifier takes arrays for.
        self._preprocess = replace(classifier.info.preprocess, channels="rgb")

    def facts(self) -> dict[str, Any]:
        """What runs, for a client to show."""
        info = self.classifier.info
        return {
            "model": info.model,
            "format": info.format,
            "precision": info.precision,
            "backend": info.backend,
            "threads": info.threads,
            "input": {"width": info.size[1], "height": info.size[0]},
            "classes": info.classes,
        }

    def check_room(self) -> None:
        """Raise `Refusal` 503 where a picture that arrived now would wait too long."""
        if self._pending >= self._workers + self._limits.waiting:
            raise Refusal(503, "busy", "too many pictures are waiting; try again", retry=1, unread=True)

    async def classify(self, data: bytearray, top_k: int) -> Answer:
        """The answer for a picture's file; raises `Refusal` 413, 422 or 503."""
        self.check_room()
        return await self.in_thread(self._classify, data, top_k)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work`, in its turn."""
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*args, **kwargs))
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Wait for what is in work, drop what waits."""
        self._pool.shutdown(cancel_futures=True)

    def frame(self, frame: Frame, top_k: int) -> tuple[Pixels, Answer]:
        """A camera's frame as RGB uint8 (H, W, 3) and its answer, in the thread that calls; raises `InputError`."""
        start = perf_counter()
        pixels = frame.rgb()
        return pixels, self._answer(pixels, (pixels.shape[1], pixels.shape[0]), top_k, start)

    def _classify(self, data: bytearray, top_k: int) -> Answer:
        try:
            kind, (width, height) = stored_format(data)
            count, most = width * height, self._limits.pixels_of(kind)
            if count > most:
                raise Refusal(
                    413, "too_many_pixels", f"{kind} of {width} × {height} pixels; {most} are decoded at most"
                )
            with self._turn(count):
                return self._answer(data, (width, height), top_k, perf_counter())
        except TooManyPixelsError as error:
            raise Refusal(413, "too_many_pixels", _about(error, data)) from None
        except InputError as error:
            raise Refusal(422, "unreadable", _about(error, data)) from None
        except MemoryError:
            raise Refusal(503, "busy", "not enough memory for this picture now", retry=5) from None

    @contextmanager
    def _turn(self, pixels: int) -> Iterator[None]:
        """For large pictures one after the other."""
        if pixels <= LARGE_PIXELS:
            yield
            return
        with self._decoding:
            try:
                yield
            finally:
                give_memory_back()

    def _answer(self, source: Source, size: tuple[int, int], top_k: int, start: float) -> Answer:
        """`start` is when decoding began."""
        info = self.classifier.info
        pixels = load_pixels(source, info.size, self._preprocess, info.channels)
        loaded = perf_counter()
        with self._running:
            begun = perf_counter()
            predictions = self.classifier.classify(pixels, top_k)
            done = perf_counter()
        return Answer(predictions, size, (loaded - start) * 1e3, (done - begun) * 1e3)
