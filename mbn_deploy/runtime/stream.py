"""Classifying a stream of frames: the next ones are decoded while one is in the interpreter, answers come in order.

Worker threads take frames from the source one after the other, decode and prepare them; Pillow lets
other threads run meanwhile, and so do the interpreters. Inference stays in the thread that asks for
answers: taking turns with the workers would move the network from one processor's cache to another's,
which costs an eighth of the rate (V2, int8, two cores). `ahead` bounds how many frames are between
the source and who asks: a slow reader makes the source wait, memory does not grow.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from queue import Empty, Queue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from PIL.Image import Image

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.runtime.camera import Frame, FrameSource
from mbn_deploy.runtime.images import Source, source_name
from mbn_deploy.runtime.ranking import Prediction

Item = TypeVar("Item")
Result = TypeVar("Result")
Prepared = TypeVar("Prepared")
OnError = Literal["raise", "yield"]

# How long the end waits for a source that does not return from `next`; its thread then ends when it returns.
PATIENCE = 2.0


@dataclass(frozen=True, eq=False)
class StreamResult:
    """The answer to one frame.

    `index` counts the frames of this stream from 0; `source` is the frame as it was given; with an
    `error` (only where errors are asked for as values) there are no `predictions`.
    """

    index: int
    source: Any
    predictions: list[Prediction]
    error: InputError | None = None


def classify_frames(
    frames: Iterable[Source | Frame],
    prepare: Callable[[Source], Prepared],
    finish: Callable[[Prepared], list[Prediction]],
    *,
    on_error: OnError,
    workers: int | None,
    ahead: int | None,
) -> Generator[StreamResult, None, None]:
    """`Classifier.classify_stream`: `prepare` in the workers' threads, `finish` in that of the caller."""
    if isinstance(frames, (str, bytes, PathLike, Image)):
        raise UsageError(f"{source_name(frames)}: one picture; a stream is an iterable of them, or camera.frames(...)")
    if on_error not in ("raise", "yield"):
        raise UsageError(f"on_error is 'raise' or 'yield', not {on_error!r}")
    count = max(2, default_threads()) if workers is None else workers
    # Of a camera one frame is prepared while one is classified: more would only make answers older.
    most = ahead if ahead is not None else 1 if isinstance(frames, FrameSource) and frames.live else 2 * count
    if count < 1 or most < 1:
        raise UsageError(f"workers and ahead must be at least 1, not {count} and {most}")
    return _answers(
        Lookahead(frames, lambda frame: _attempt(frame, prepare), workers=count, ahead=most), finish, on_error
    )


def _attempt(frame: Source | Frame, prepare: Callable[[Source], Prepared]) -> tuple[Any, Prepared | InputError]:
    """The frame with what was made of it, or with why that could not be."""
    try:
        return frame, prepare(frame.image if isinstance(frame, Frame) else frame)
    except InputError as error:
        if isinstance(frame, Frame) and not isinstance(frame.image, str):  # else the message names a file already
            return frame, InputError(f"{frame.name}: {error}")
        return frame, error


def _answers(
    prepared: Lookahead[Any, tuple[Any, Prepared | InputError]],
    finish: Callable[[Prepared], list[Prediction]],
    on_error: OnError,
) -> Generator[StreamResult, None, None]:
    try:
        for index, (frame, made) in enumerate(prepared):
            predictions, error = ([], made) if isinstance(made, InputError) else _tried(finish, made)
            if error is not None and on_error == "raise":
                raise error
            yield StreamResult(index, frame, predictions, error)
    finally:
        prepared.stop()


def _tried(
    finish: Callable[[Prepared], list[Prediction]], made: Prepared
) -> tuple[list[Prediction], InputError | None]:
    try:
        return finish(made), None
    except InputError as error:
        return [], error


class Lookahead(Generic[Item, Result]):
    """`work(item)` for each of `items`, in order, computed by `workers` threads that run at most `ahead` in advance.

    What `items` or `work` raise is raised at its place. `items` is iterated in the threads, one at a
    time, and closed if it can be. Threads start with the first result that is asked for.
    """

    def __init__(self, items: Iterable[Item], work: Callable[[Item], Result], *, workers: int, ahead: int) -> None:
        self._items, self._work = items, work
        self._slots: Queue[Future[Result]] = Queue(ahead)
        self._turn, self._leaving = Lock(), Lock()
        self._over = False
        self._running = workers
        self._threads = [Thread(target=self._run, name=f"stream-{i}", daemon=True) for i in range(workers)]

    def __iter__(self) -> Iterator[Result]:
        self._iterator = iter(self._items)
        atexit.register(self.stop)  # threads of a stream that nobody closed must not outlive the interpreter
        for thread in self._threads:
            thread.start()
        while True:
            try:
                result = self._slots.get().result()
            except _End:
                return
            yield result

    def stop(self) -> None:
        """End the threads and close the items; waits for what is being computed."""
        self._over = True
        atexit.unregister(self.stop)
        with suppress(Empty):
            while True:  # who waits for a free place finds one
                self._slots.get_nowait()
        if isinstance(self._items, FrameSource):
            self._items.close()  # ends a `next` that waits
        deadline = monotonic() + PATIENCE
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - monotonic()))

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            slot, item = taken
            try:
                slot.set_result(self._work(item))
            except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
                slot.set_exception(error)
            del taken, slot, item  # the next one may be long in coming
        with self._leaving:
            self._running -= 1
            last = not self._running
        if last and hasattr(self._iterator, "close"):
            self._iterator.close()

    def _take(self) -> tuple[Future[Result], Item] | None:
        """The next item and the place of its result. The place comes first: no item waits for one and grows old."""
        with self._turn:
            if self._over:
                return None
            slot: Future[Result] = Future()
            self._slots.put(slot)
            if self._over:  # stopped while it waited
                return None
            try:
                return slot, next(self._iterator)
            except StopIteration:
                slot.set_exception(_End())
            except BaseException as error:  # noqa: BLE001 - raised again where the item would have been
                slot.set_exception(error)
            self._over = True
            return None


class _End(Exception):  # noqa: N818 - no error
    """There are no more items."""
