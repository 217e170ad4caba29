"""The Classifier: images in, labels with probabilities out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
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
from mbn_deploy.runtime.label_files import Labels
from mbn_deploy.runtime.model_info import ModelInfo, OpenedModel, OpenOptions
from mbn_deploy.runtime.opening import close_on_error, open_model
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.ranking import Prediction, Ranker
from mbn_deploy.runtime.tensors import PixelEncoder

if TYPE_CHECKING:
    from mbn_deploy.runtime.camera import Frame
    from mbn_deploy.runtime.stream import OnError, StreamResult

_UINT8 = np.dtype(np.uint8)


def check_top_k(top_k: int) -> None:
    """Raise `UsageError` for a number of classes below 1."""
    if top_k < 1:
        raise UsageError(f"top_k must be at least 1, not {top_k}")


class Classifier:
    """An opened model file with its preprocessing and labels; created by `Classifier.open`.

    It may be used from several threads: inferences take turns, while decoding and preprocessing run in parallel
    (a `ClassifierPool` also runs inferences in parallel). Keep it open for many images; opening costs as much as many
    inferences.
    """

    def __init__(self, opened: OpenedModel) -> None:
        self._backend, self._info, self._labels = opened.backend, opened.info, opened.labels
        info = opened.info
        _check_output(info)
        self._encode = PixelEncoder(info.input, info.preprocess, info.layout)
        self._rank = Ranker.for_output(info.output, info.scores, opened.labels)
        self._shape = (*info.size, info.channels)
        self._batch = info.input.shape[0]
        # A prepared array can be the input tensor itself: the fastest models take a third of a millisecond.
        self._direct = self._encode.identity and self._batch == 1 and info.preprocess.channels == "rgb"
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
        labels: Labels | None = None,
        resize: str | None = None,
        preprocess: str | Preprocess | None = None,
        isolate: bool = False,
    ) -> Classifier:
        """Open a bundle's folder or a single .tflite or .onnx file. Options win over what the file says.

        Args:
            path: the folder or the file.
            precision: which file of a bundle; by default the first available of int8, float16, dynamic, float32,
                as .tflite if an interpreter for it is installed, else as .onnx.
            backend: `litert`, `tflite` or `onnx`; by default the first installed one that runs the file.
            threads: threads of one inference; by default the number that `benchmark --tune` found best for this
                file on this kind of machine, else the usable processors, at most 4. `info.threads_from` says which.
            labels: a file or folder that names the classes, the names themselves, or a dictionary (see
                `runtime.label_files`); without any, classes are called by their indices.
            resize: `squash`, `crop` or `letterbox`.
            preprocess: `raw`, `unit`, `tf`, `torch`, `caffe`, `MEAN/STD`, or a complete `Preprocess`.
                A file with a uint8 input that does not say it takes the pixels as they are.
            isolate: run the interpreter in a child process with limits on memory and time, for files of unknown
                origin: a crash or a hang becomes an `InputError`, also during `classify`. Unix only.

        Raises:
            InputError: the file does not exist, is damaged, was changed after the export or is not an image
                classifier, or the number of labels is not the number of classes.
            UsageError: an option makes no sense here, or neither the file nor an option says something that is
                needed; the message names it.
            MissingExtraError: no interpreter for the file is installed; the message has the install line.
        """
        options = OpenOptions(
            precision=precision,
            backend=backend,
            threads=threads,
            labels=labels,
            resize=resize,
            preprocess=preprocess,
            isolate=isolate,
        )
        opened = open_model(path, options)
        with close_on_error([opened.backend]):
            return cls(opened)

    @property
    def info(self) -> ModelInfo:
        """The model file, its interpreter and its preprocessing."""
        return self._info

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels by class index; None if neither the file nor an option gives them."""
        return self._labels

    def classify(self, source: Source, top_k: int = 5) -> list[Prediction]:
        """Return the `top_k` best classes of one image, best first; among equal scores the lower index comes first.

        Args:
            source: anything that `load_pixels` takes. A uint8 array of exactly the model's (height, width, channels),
                in RGB, is used without resizing.
            top_k: number of classes; at most as many as the model has are returned.

        Raises:
            InputError: the image cannot be read.
            UsageError: `top_k` is below 1, or the classifier is closed.
        """
        check_top_k(top_k)
        if self._direct and isinstance(source, np.ndarray) and source.shape == self._shape and source.dtype == _UINT8:
            return self._rank(self._run(source[np.newaxis]).reshape(-1), top_k)
        pixels = self._load(source)
        if self._batch == 1:
            return self._rank(self._run(self._encode(pixels[np.newaxis])).reshape(-1), top_k)
        return self._rank(next(self._rows(pixels[np.newaxis])), top_k)

    def classify_batch(self, sources: Iterable[Source], top_k: int = 5) -> list[list[Prediction]]:
        """Classify several images, in order, as many at a time as the model's batch takes; see `classify`."""
        check_top_k(top_k)
        predictions: list[list[Prediction]] = []
        pending = iter(sources)
        while chunk := [self._load(source) for source in islice(pending, self._batch)]:
            predictions += [self._rank(row, top_k) for row in self._rows(np.stack(chunk))]
        return predictions

    def classify_stream(
        self,
        frames: Iterable[Source | Frame],
        top_k: int = 5,
        *,
        on_error: OnError = "raise",
        workers: int | None = None,
        ahead: int | None = None,
    ) -> Generator[StreamResult, None, None]:
        """Classify a stream of images, in order, while the next ones are decoded and prepared.

        Inference runs in the thread that takes the results. At most `ahead` + 1 frames are held, however many there
        are: new ones are taken only as results are taken. Closing the generator (the end of its `for` loop, `close`,
        Ctrl-C) ends its threads and closes `frames`, which is iterated in those threads, one at a time. If `frames`
        does not return from its `next` within two seconds then, its thread goes on and closes it later.

        Args:
            frames: anything that `classify` takes, one after the other, or the `Frame` objects of
                `mbn_deploy.runtime.frames`. An array must not be changed before its result has come.
            top_k: number of classes for each frame.
            on_error: `raise` the `InputError` of an unreadable frame in its place, which ends the stream, or `yield`
                it as `StreamResult.error` and go on. An error of `frames` itself always ends the stream.
            workers: threads that decode; by default the usable processors, at least 2, at most 4.
            ahead: frames that may be prepared in advance; by default 2 × `workers`, and 1 for cameras, whose frames
                grow old.

        Raises:
            UsageError: at once, for options that make no sense.
        """
        from mbn_deploy.runtime.stream import classify_frames

        check_top_k(top_k)
        return classify_frames(
            frames,
            self.prepare,
            lambda tensor: self.rank(self.run_raw(tensor), top_k),
            on_error=on_error,
            workers=workers,
            ahead=ahead,
        )

    def predict(self, pixels: Pixels) -> Floats:
        """Return the scores of prepared images, dequantized; probabilities if the model ends in logits.

        Args:
            pixels: uint8 (N, height, width, channels) as `load_pixels` returns them: of the model's size, channels
                in the order of `info.preprocess.channels`. N may differ from the model's batch.

        Returns:
            float32 (N, classes).

        Raises:
            UsageError: `pixels` has another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self._shape:
            raise UsageError(
                f"pixels must be uint8 (N, {', '.join(map(str, self._shape))}), not {pixels.dtype} {pixels.shape}"
            )
        if not len(pixels):
            return np.empty((0, self._info.classes), np.float32)
        return self._rank.to_scores(np.stack(list(self._rows(pixels))))

    def prepare(self, source: Source) -> Array:
        """Load one image as a tensor for `run_raw`: the first of the three steps of `classify`.

        Where the model's batch is larger than 1, the other images are black.
        """
        pixels = self._load(source)[np.newaxis]
        return self._encode(pixels if self._batch == 1 else self._fill_batch(pixels))

    def run_raw(self, tensor: Array) -> Array:
        """Run one inference on a tensor of exactly the shape and dtype of `info.input`; the second step.

        Returns a tensor of the shape and dtype of `info.output`.
        """
        return self._run(tensor)

    def rank(self, output: Array, top_k: int = 5) -> list[Prediction]:
        """Return the `top_k` best classes of the first image in an output of `run_raw`: the third step."""
        check_top_k(top_k)
        return self._rank(output[0].reshape(-1).copy(), top_k)

    def close(self) -> None:
        """Wait for a running inference, then free the interpreter. Later calls raise `UsageError`."""
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

    def _load(self, source: Any) -> Pixels:
        info = self._info
        return load_pixels(source, info.size, info.preprocess, info.channels)

    def _run(self, tensor: Array) -> Array:
        """Run one inference at a time: the interpreter's buffers are shared."""
        with self._lock:
            if self._closed:
                raise UsageError("the classifier is closed")
            return self._backend.run(tensor)

    def _rows(self, pixels: Pixels) -> Iterator[Array]:
        """Yield the raw scores (classes,) of each image of (N, H, W, C), run in the model's batches."""
        for start in range(0, len(pixels), self._batch):
            chunk = pixels[start : start + self._batch]
            count = len(chunk)
            if count < self._batch:
                chunk = self._fill_batch(chunk)
            yield from self._run(self._encode(chunk)).reshape(self._batch, -1)[:count]

    def _fill_batch(self, pixels: Pixels) -> Pixels:
        """Append black images until there are as many as the model's batch takes."""
        return np.concatenate([pixels, np.zeros((self._batch - len(pixels), *pixels.shape[1:]), np.uint8)])


def _check_output(info: ModelInfo) -> None:
    """Raise `InputError` unless the output has one row of scores for each image of the batch."""
    shape, batch = info.output.shape, info.input.shape[0]
    if np.prod(shape[1:]) != info.classes:
        raise InputError(f"{info.path}: its output has shape {shape}; a classifier's is (N, classes)")
    if shape[0] != batch:
        raise InputError(f"{info.path}: it takes {batch} images and returns {shape[0]} rows of scores")
