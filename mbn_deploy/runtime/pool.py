"""Several interpreters on one file, for programs that classify from several threads."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from os import PathLike
from threading import Condition
from typing import TYPE_CHECKING

from mbn_deploy.arguments import MOST_INTERPRETERS, MOST_THREADS, check_count
from mbn_deploy.arrays import Array
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.backends import MAX_DEFAULT_THREADS
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.classifier import Classifier, check_top_k
from mbn_deploy.runtime.images import Source
from mbn_deploy.runtime.label_files import Labels
from mbn_deploy.runtime.model_info import OpenedModel, OpenOptions
from mbn_deploy.runtime.opening import close_on_error, open_interpreter, open_model
from mbn_deploy.runtime.system.device import usable_processors

if TYPE_CHECKING:
    from mbn_deploy.runtime.camera import Frame
    from mbn_deploy.runtime.stream import OnError, StreamResult


class ClassifierPool(Classifier):
    """A `Classifier` whose inferences run in parallel; created by `ClassifierPool.open`.

    For a server or a batch job: with one thread for each interpreter it classifies as many images per second as the
    processors allow. A single image takes longer than with one `Classifier` on all processors, and every interpreter
    has its own copy of the weights. The methods are those of `Classifier`; with `classify_stream` a single thread
    keeps the whole pool busy.
    """

    def __init__(self, opened: OpenedModel, others: Sequence[Backend]) -> None:
        super().__init__(opened)
        self._all = (opened.backend, *others)
        self._idle = list(self._all)
        self._returned = Condition()

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        size: int | None = None,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
        labels: Labels | None = None,
        resize: str | None = None,
        preprocess: str | Preprocess | None = None,
        scores: str | None = None,
        isolate: bool | None = None,
    ) -> ClassifierPool:
        """Open `size` interpreters on one file. All options but `size` and `threads` are those of `Classifier.open`.

        Args:
            path: a bundle's folder or a single .tflite or .onnx file.
            size: number of interpreters; by default as many as fit the processors with `threads` each.
            precision: see `Classifier.open`.
            backend: see `Classifier.open`.
            threads: threads of each interpreter; by default the processors divided by `size`, at most 4, or 1 if
                `size` is not given either. If both are given, they are used as they are.
            labels: see `Classifier.open`.
            resize: see `Classifier.open`.
            preprocess: see `Classifier.open`.
            scores: see `Classifier.open`.
            isolate: run each interpreter in a child process of its own; see `Classifier.open`.

        Raises:
            UsageError: `size` or `threads` is below 1.
            InputError: see `Classifier.open`.
            MissingExtraError: see `Classifier.open`.
        """
        count, each = share_processors(usable_processors(), size, threads)
        options = OpenOptions(
            precision=precision,
            backend=backend,
            threads=each,
            labels=labels,
            resize=resize,
            preprocess=preprocess,
            scores=scores,
            isolate=isolate,
        )
        opened = open_model(path, options)
        info, backends = opened.info, [opened.backend]
        with close_on_error(backends):
            while len(backends) < count:
                backends.append(
                    open_interpreter(
                        opened.data,
                        info.format,
                        name=info.backend,
                        threads=each,
                        where=info.path,
                        isolate=bool(isolate),
                    )
                )
            return cls(opened, backends[1:])

    def answer_stream(
        self,
        frames: Iterable[Source | Frame],
        top_k: int | None = None,
        *,
        threshold: float | None = None,
        on_error: OnError = "raise",
        workers: int | None = None,
        ahead: int | None = None,
    ) -> Generator[StreamResult, None, None]:
        """Answer a stream of images, in order; see `Classifier.answer_stream`.

        Inference runs in the worker threads, of which there is by default one more than interpreters.
        """
        from mbn_deploy.runtime.stream import answer_frames

        check_top_k(top_k)
        return answer_frames(
            frames,
            lambda source: self.answer(source, top_k, threshold=threshold),
            lambda answer: answer,
            on_error=on_error,
            workers=self.size + 1 if workers is None else workers,
            ahead=ahead,
        )

    @property
    def size(self) -> int:
        """Number of interpreters."""
        return len(self._all)

    def close(self) -> None:
        """Wait for running inferences, then free the interpreters. Later calls raise `UsageError`."""
        if self._forked:
            return
        with self._returned:
            if self._closed:
                return
            self._closed = True
            self._returned.notify_all()
            self._returned.wait_for(lambda: len(self._idle) == len(self._all))
            for backend in self._all:
                backend.close()

    def _run(self, tensor: Array) -> Array:
        """Run one inference in the idle interpreter that was used last: its memory is still in the caches."""
        self._check_process()
        with self._returned:
            self._returned.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise UsageError("the classifier is closed")
            backend = self._idle.pop()
        try:
            return backend.run(tensor)
        finally:
            with self._returned:
                self._idle.append(backend)
                self._returned.notify_all() if self._closed else self._returned.notify()


def share_processors(processors: int, size: int | None, threads: int | None) -> tuple[int, int]:
    """Return (interpreters, threads of each) that use at most `processors`, unless both are given.

    Raises `UsageError` for a number below 1 or beyond its bound.
    """
    if size is not None:
        check_count("size", size, MOST_INTERPRETERS)
    if threads is not None:
        check_count("threads", threads, MOST_THREADS)
    if threads is None:
        threads = 1 if size is None else max(1, min(MAX_DEFAULT_THREADS, processors // size))
    return (max(1, processors // threads) if size is None else size), threads
