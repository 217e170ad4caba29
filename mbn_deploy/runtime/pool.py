"""Several interpreters on one file, for programs that classify from several threads."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from os import PathLike
from threading import Condition
from typing import TYPE_CHECKING

from mbn_deploy.arrays import Array
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.backends import MAX_DEFAULT_THREADS, Backend
from mbn_deploy.runtime.classifier import TOP_K, Classifier
from mbn_deploy.runtime.images import Source
from mbn_deploy.runtime.opening import OpenedModel, Options, closed_on_failure, open_interpreter, open_model
from mbn_deploy.runtime.system.device import usable_processors

if TYPE_CHECKING:
    from mbn_deploy.runtime.camera import Frame
    from mbn_deploy.runtime.stream import OnError, StreamResult


class ClassifierPool(Classifier):
    """A `Classifier` whose inferences run side by side; made by `ClassifierPool.open`.

    For a server or a batch: with one thread an interpreter, as many pictures a second as the processors
    allow. One picture takes longer than with one `Classifier` on all processors, and every interpreter
    has its own copy of the weights. Everything else is the same, `classify_stream` included, which is
    how one thread keeps the whole pool busy.
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
        labels: str | PathLike[str] | Sequence[str] | None = None,
        resize: str | None = None,
        preprocess: str | Preprocess | None = None,
        isolate: bool = False,
    ) -> ClassifierPool:
        """Open `size` interpreters on one file; everything but `size` and `threads` as `Classifier.open`.

        Args:
            path: a bundle's folder or a file.
            size: interpreters; by default as many as fit the processors with `threads` each.
            precision: as there.
            backend: as there.
            threads: of each interpreter; by default as many as the processors allow `size` of, at most
                4, and 1 if `size` is not given either. Both together are taken as they are.
            labels: as there.
            resize: as there.
            preprocess: as there.
            isolate: as there; a process for each interpreter.

        Raises:
            UsageError: `size` or `threads` below 1, and what `Classifier.open` raises.
        """
        count, each = split(usable_processors(), size, threads)
        opened = open_model(path, Options(precision, backend, each, labels, resize, preprocess, isolate))
        info = opened.info
        every = [opened.backend]
        with closed_on_failure(every):
            while len(every) < count:
                more = open_interpreter(
                    opened.data, info.format, name=info.backend, threads=each, where=info.path, isolate=isolate,
                    vouched=True,
                )  # fmt: skip
                every.append(more)
            return cls(opened, every[1:])

    def classify_stream(
        self,
        frames: Iterable[Source | Frame],
        top_k: int = 5,
        *,
        on_error: OnError = "raise",
        workers: int | None = None,
        ahead: int | None = None,
    ) -> Generator[StreamResult, None, None]:
        """As `Classifier.classify_stream`, but inference runs in the workers, by default one more than interpreters."""
        from mbn_deploy.runtime.stream import classify_frames

        if top_k < 1:
            raise UsageError(TOP_K)
        return classify_frames(
            frames, lambda source: self.classify(source, top_k), lambda found: found,
            on_error=on_error, workers=self.size + 1 if workers is None else workers, ahead=ahead,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """How many interpreters there are."""
        return len(self._all)

    def close(self) -> None:
        """Free the interpreters when those that run have answered. Later calls raise `UsageError`."""
        with self._returned:
            if self._closed:
                return
            self._closed = True
            self._returned.notify_all()
            self._returned.wait_for(lambda: len(self._idle) == len(self._all))
            for backend in self._all:
                backend.close()

    def _run(self, tensor: Array) -> Array:
        """One inference in the interpreter that was used last of those that are idle: its memory is still warm."""
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


def split(processors: int, size: int | None, threads: int | None) -> tuple[int, int]:
    """(interpreters, threads of each) that do not ask for more than `processors`, unless both are told."""
    if min(size or 1, threads or 1) < 1 or 0 in (size, threads):
        raise UsageError(f"size and threads must be at least 1, not {size} and {threads}")
    if threads is None:
        threads = 1 if size is None else max(1, min(MAX_DEFAULT_THREADS, processors // size))
    return (max(1, processors // threads) if size is None else size), threads
