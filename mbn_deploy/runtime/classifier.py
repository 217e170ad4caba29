"""The Classifier: pictures in, labels with probabilities out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from os import PathLike
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mbn_deploy.arrays import Array, Floats, Pixels
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.images import Source
from mbn_deploy.runtime.opening import ModelInfo, OpenedModel, Options, closed_on_failure, open_model
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.ranking import Prediction, Ranker
from mbn_deploy.runtime.tensors import PixelEncoder

if TYPE_CHECKING:
    from mbn_deploy.runtime.camera import Frame
    from mbn_deploy.runtime.stream import OnError, StreamResult

TOP_K = "top_k must be at least 1"
_UINT8 = np.dtype(np.uint8)


class Classifier:
    """An opened model file with its preprocessing and labels; made by `Classifier.open`.

    Can be used from several threads: inferences take turns, decoding and preprocessing do not
    (`ClassifierPool` has several interpreters). `close` waits for an inference that runs.
    Keep one open for many pictures; opening costs many inferences.
    """

    def __init__(self, opened: OpenedModel) -> None:
        self._backend, self._info, self._labels = opened.backend, opened.info, opened.labels
        info = opened.info
        if np.prod(info.output.shape[1:]) != info.classes:
            raise InputError(f"{info.path}: output of shape {info.output.shape}; a classifier's is (N, classes)")
        self._encode = PixelEncoder(info.input, info.preprocess, info.layout)
        self._rank = Ranker.of(info.output, info.scores, opened.labels)
        self._shape = (*info.size, info.channels)
        self._batch = info.input.shape[0]
        # A prepared array can be the input tensor itself: the fastest models take a third of a millisecond.
        self._direct = self._encode.identity and self._batch == 1 and info.preprocess.channels == "rgb"
        if info.output.shape[0] != self._batch:
            raise InputError(f"{info.path}: {self._batch} pictures go in, {info.output.shape[0]} rows come out")
        self._lock = Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
        labels: str | PathLike[str] | Sequence[str] | None = None,
        resize: str | None = None,
        preprocess: str | Preprocess | None = None,
        isolate: bool = False,
    ) -> Classifier:
        """Open a bundle's folder or a lone .tflite or .onnx file. What is given wins over what the file says.

        Args:
            path: the folder or the file.
            precision: which file of a bundle; by default the first that there is of int8, float16,
                dynamic, float32, as .tflite if an interpreter for it is installed, else as .onnx.
            backend: `litert`, `tflite` or `onnx`; by default the first installed that runs the file.
            threads: for one inference; by default as many as `benchmark --tune` found best for this file on
                this kind of machine, else the usable processors, at most 4. `info.threads_from` says which.
            labels: a text file (line i is class i) or the labels; without any, labels are indices.
            resize: `squash`, `crop` or `letterbox`.
            preprocess: `raw`, `unit`, `tf`, `torch`, `caffe`, `MEAN/STD`, or a whole `Preprocess`.
                A file with a uint8 input that says nothing takes pixels as they are.
            isolate: run the interpreter in a process of its own, with bounds on its memory and time: for files of
                unknown origin. What they do to it is an `InputError` then, also while `classify` runs. Unix only.

        Raises:
            InputError: no such file, damaged, changed after the export, not a classifier of pictures,
                or labels (its own or the given ones) that don't match its classes.
            UsageError: an option that makes no sense here, or something that neither the file nor an
                option says; the message names it.
            MissingExtraError: no interpreter for the file is installed; has the install line.
        """
        opened = open_model(path, Options(precision, backend, threads, labels, resize, preprocess, isolate))
        with closed_on_failure([opened.backend]):
            return cls(opened)

    @property
    def info(self) -> ModelInfo:
        """What runs, and how it is fed."""
        return self._info

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Index = class; None if neither the file nor an option says."""
        return self._labels

    def classify(self, source: Source, top_k: int = 5) -> list[Prediction]:
        """The `top_k` best classes of one picture, best first (of equal scores the lower index first).

        `source` is what `load_pixels` takes. A uint8 array of the model's own (H, W, C), in RGB, is
        taken as prepared and goes in without resizing. Raises `InputError` for a picture that cannot
        be read, `UsageError` for `top_k` below 1.
        """
        if top_k < 1:
            raise UsageError(TOP_K)
        if self._direct and isinstance(source, np.ndarray) and source.shape == self._shape and source.dtype == _UINT8:
            return self._rank(self._run(source[np.newaxis]).reshape(-1), top_k)
        pixels = self._pixels(source)
        if self._batch == 1:
            return self._rank(self._run(self._encode(pixels[np.newaxis])).reshape(-1), top_k)
        return self._rank(next(self._rows(pixels[np.newaxis])), top_k)

    def classify_batch(self, sources: Iterable[Source], top_k: int = 5) -> list[list[Prediction]]:
        """`classify` for many pictures, in order; as many at a time as the model's batch takes."""
        if top_k < 1:
            raise UsageError(TOP_K)
        found: list[list[Prediction]] = []
        pending = iter(sources)
        while chunk := [self._pixels(source) for source in islice(pending, self._batch)]:
            found += [self._rank(row, top_k) for row in self._rows(np.stack(chunk))]
        return found

    def classify_stream(
        self,
        frames: Iterable[Source | Frame],
        top_k: int = 5,
        *,
        on_error: OnError = "raise",
        workers: int | None = None,
        ahead: int | None = None,
    ) -> Generator[StreamResult, None, None]:
        """`classify` for a stream of pictures, in order, while the next ones are decoded and prepared.

        Inference runs in the thread that takes the answers. The generator holds at most `ahead` + 1
        frames, however many there are, and takes new ones only as answers are taken. Closing it (the
        end of its `for`, `close`, Ctrl-C) ends its threads and closes `frames`, which is iterated in
        those threads, one at a time. A source that does not return from its `next` is left to its
        thread after two seconds, and closed when it returns.

        Args:
            frames: what `classify` takes, one after the other, or the `Frame`s of `camera.frames`. An
                array must not be changed before its answer has come.
            top_k: classes of each.
            on_error: `raise` an unreadable frame's `InputError` at its place, which ends the stream, or
                `yield` it as `StreamResult.error` and go on. What `frames` itself raises ends the stream.
            workers: threads that decode; by default the usable processors, at least 2, at most 4.
            ahead: frames that may be in work or wait for being asked for; by default 2 × `workers`, and
                1 of cameras, whose frames grow old.

        Raises:
            UsageError: at once, for options that make no sense.
        """
        from mbn_deploy.runtime.stream import classify_frames

        if top_k < 1:
            raise UsageError(TOP_K)
        return classify_frames(
            frames, self.prepare, lambda tensor: self.rank(self.run_raw(tensor), top_k),
            on_error=on_error, workers=workers, ahead=ahead,
        )  # fmt: skip

    def predict(self, pixels: Pixels) -> Floats:
        """Scores of prepared pictures, dequantized, as probabilities if the model gives logits.

        Args:
            pixels: uint8 (N, H, W, C) as `load_pixels` gives them: the model's size, channels in the
                order of `info.preprocess.channels`. N need not be the model's batch.

        Returns:
            float32 (N, classes).
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self._shape:
            raise UsageError(
                f"pixels must be uint8 (N, {', '.join(map(str, self._shape))}), not {pixels.dtype} {pixels.shape}"
            )
        if not len(pixels):
            return np.empty((0, self._info.classes), np.float32)
        return self._rank.real(np.stack(list(self._rows(pixels))))

    def prepare(self, source: Source) -> Array:
        """The first of `classify`'s three steps: one picture as a tensor for `run_raw`, the rest of a batch zeros."""
        pixels = self._pixels(source)[np.newaxis]
        return self._encode(pixels if self._batch == 1 else self._filled(pixels))

    def run_raw(self, tensor: Array) -> Array:
        """One inference in the model's own types: exactly `info.input`'s shape and dtype to `info.output`'s."""
        return self._run(tensor)

    def rank(self, output: Array, top_k: int = 5) -> list[Prediction]:
        """The last of `classify`'s three steps: the `top_k` best classes of what `run_raw` gave for one picture."""
        if top_k < 1:
            raise UsageError(TOP_K)
        return self._rank(output[0].reshape(-1).copy(), top_k)

    def close(self) -> None:
        """Free the interpreter. Using the classifier afterwards raises `UsageError`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._backend.close()

    def __enter__(self) -> Classifier:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pixels(self, source: Any) -> Pixels:
        info = self._info
        return load_pixels(source, info.size, info.preprocess, info.channels)

    def _run(self, tensor: Array) -> Array:
        """One inference; the interpreter's buffers are shared, so one at a time."""
        with self._lock:
            if self._closed:
                raise UsageError("the classifier is closed")
            return self._backend.run(tensor)

    def _rows(self, pixels: Pixels) -> Iterator[Array]:
        """Raw scores (classes,) of each of (N, H, W, C), in the model's own batches, the last filled up with zeros."""
        for start in range(0, len(pixels), self._batch):
            chunk = pixels[start : start + self._batch]
            count = len(chunk)
            if count < self._batch:
                chunk = self._filled(chunk)
            yield from self._run(self._encode(chunk)).reshape(self._batch, -1)[:count]

    def _filled(self, pixels: Pixels) -> Pixels:
        """As many pictures as the model's batch takes, black ones in the place of those that are missing."""
        return np.concatenate([pixels, np.zeros((self._batch - len(pixels), *pixels.shape[1:]), np.uint8)])
