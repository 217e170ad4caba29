"""Classify a stream of frames: the next ones are decoded while one is in the interpreter; results come in order.

Worker threads take frames from the source, one after the other, decode and prepare them; Pillow lets other threads run
meanwhile, and so do the interpreters. Inference stays in the thread that takes the results: taking turns with the
workers would move the network from one processor's cache to another's, which costs an eighth of the frame rate (V2,
int8, two cores). `ahead` bounds how many frames are between the source and the reader: a slow reader makes the source
wait, and memory does not grow.
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

from mbn_deploy.arguments import MOST_THREADS, check_count
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.runtime.camera import Frame, FrameSource
from mbn_deploy.runtime.images import Source, source_name
from mbn_deploy.runtime.ranking import Prediction

Item = TypeVar("Item")
Result = TypeVar("Result")
Prepared = TypeVar("Prepared")
OnError = Literal["raise", "yield"]

# Seconds that closing a stream waits for a source that does not return from `next`; its thread ends when it returns.
PATIENCE = 2.0


@dataclass(frozen=True, eq=False)
class StreamResult:
    """The result for one frame.

    Attributes:
        index: the frame's number in this stream, from 0.
        source: the frame as it was given.
        answer: what `Classifier.answer` returns for it; None if there is an `error`.
        error: why the frame could not be answered (only with `on_error="yield"`).
    """

    index: int
    source: Any
    answer: Any
    error: InputError | None = None

    @property
    def predictions(self) -> list[Prediction]:
        """The likeliest names, for a model that classifies; empty if there is an `error`."""
        return [] if self.error is not None else self.answer


def answer_frames(
    frames: Iterable[Source | Frame],
    prepare: Callable[[Source], Prepared],
    finish: Callable[[Prepared], Any],
    *,
    on_error: OnError,
    workers: int | None,
    ahead: int | None,
) -> Generator[StreamResult, None, None]:
    """Run `prepare` for each frame in worker threads and `finish` in the caller's thread.

    See `Classifier.answer_stream` for the options and the errors.
    """
    if isinstance(frames, (str, bytes, PathLike, Image)):
        raise UsageError(
            f"{source_name(frames)}: a single image; a stream is an iterable of images, "
            "such as mbn_deploy.runtime.frames(...)"
        )
    if on_error not in ("raise", "yield"):
        raise UsageError(f"on_error is 'raise' or 'yield', not {on_error!r}")
    if workers is None:
        workers = max(2, default_threads())
    check_count("workers", workers, MOST_THREADS)
    if ahead is None:
        # One frame of a camera is prepared while another is classified: more would only make the results older.
        ahead = 1 if isinstance(frames, FrameSource) and frames.live else 2 * workers
    check_count("ahead", ahead)
    lookahead = Lookahead(frames, lambda frame: _prepare_frame(frame, prepare), workers=workers, ahead=ahead)
    return _results(lookahead, finish, on_error)


def _prepare_frame(frame: Source | Frame, prepare: Callable[[Source], Prepared]) -> tuple[Any, Prepared | InputError]:
    """Return the frame with what was prepared from it, or with the error that says why that failed."""
    try:
        return frame, prepare(frame.image if isinstance(frame, Frame) else frame)
    except InputError as error:
        if isinstance(frame, Frame) and not isinstance(frame.image, str):  # a path is named by the message already
            return frame, InputError(f"{frame.name}: {error}")
        return frame, error


def _results(
    lookahead: Lookahead[Any, tuple[Any, Prepared | InputError]],
    finish: Callable[[Prepared], Any],
    on_error: OnError,
) -> Generator[StreamResult, None, None]:
    try:
        for index, (frame, prepared) in enumerate(lookahead):
            answer, error = _finish_frame(prepared, finish)
            if error is not None and on_error == "raise":
                raise error
            yield StreamResult(index, frame, answer, error)
    finally:
        lookahead.stop()


def _finish_frame(prepared: Prepared | InputError, finish: Callable[[Prepared], Any]) -> tuple[Any, InputError | None]:
    if isinstance(prepared, InputError):
        return None, prepared
    try:
        return finish(prepared), None
    except InputError as error:
        return None, error


class Lookahead(Generic[Item, Result]):
    """Yields `work(item)` for each of `items`, in order, computed in advance by `workers` threads.

    At most `ahead` results wait to be taken. An exception of `items` or `work` is raised in its place. `items` is
    iterated in the threads, one at a time, and closed at the end if it can be. The threads start when the first
    result is asked for.
    """

    def __init__(self, items: Iterable[Item], work: Callable[[Item], Result], *, workers: int, ahead: int) -> None:
        self._items, self._work = items, work
        self._results: Queue[Future[Result]] = Queue(ahead)
        self._turn, self._leaving = Lock(), Lock()
        self._over = False
        self._running = workers
        self._threads = [Thread(target=self._run, name=f"stream-{i}", daemon=True) for i in range(workers)]

    def __iter__(self) -> Iterator[Result]:
        self._iterator = iter(self._items)
        atexit.register(self.stop)  # the threads of a stream that nobody closed must not outlive the interpreter
        for thread in self._threads:
            thread.start()
        while True:
            try:
                result = self._results.get().result()
            except _End:
                return
            yield result

    def stop(self) -> None:
        """End the threads and close the items; wait for work that is going on."""
        self._over = True
        atexit.unregister(self.stop)
        with suppress(Empty):
            while True:  # makes room for a thread that waits to put its result
                self._results.get_nowait()
        if isinstance(self._items, FrameSource):
            self._items.close()  # ends a `next` that waits
        deadline = monotonic() + PATIENCE
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - monotonic()))

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            future, item = taken
            try:
                future.set_result(self._work(item))
            except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
                future.set_exception(error)
            del taken, future, item  # not kept alive while the next one is waited for
        with self._leaving:
            self._running -= 1
            last = not self._running
        if last and hasattr(self._iterator, "close"):
            self._iterator.close()

    def _take(self) -> tuple[Future[Result], Item] | None:
        """Return the next item with the future of its result; None at the end.

        The future is queued before the item is taken, so that no item grows old while it waits for a place.
        """
        with self._turn:
            if self._over:
                return None
            future: Future[Result] = Future()
            self._results.put(future)
            if self._over:  # stopped while it waited
                return None
            try:
                return future, next(self._iterator)
            except StopIteration:
                future.set_exception(_End())
            except BaseException as error:  # noqa: BLE001 - raised again where the item would have been
                future.set_exception(error)
            self._over = True
            return None


class _End(Exception):  # noqa: N818 - not an error
    """The items have come to their end."""
