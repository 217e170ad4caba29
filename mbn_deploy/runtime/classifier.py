"""The Classifier: images in, names with probabilities (or numbers, or a feature vector) out."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from os import PathLike
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mbn_deploy.answers import Meaning
from mbn_deploy.arguments import check_count, check_number
from mbn_deploy.arrays import Array, Floats, Pixels
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.decoding import LABEL_THRESHOLD, TOP_K, Answer, Decoder, Value, to_answers
from mbn_deploy.runtime.images import Source
from mbn_deploy.runtime.label_files import Labels
from mbn_deploy.runtime.model_info import ModelInfo, OpenedModel, OpenOptions
from mbn_deploy.runtime.opening import close_on_error, open_model
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.ranking import Prediction
from mbn_deploy.runtime.tensors import PixelEncoder

if TYPE_CHECKING:
    from mbn_deploy.runtime.camera import Frame
    from mbn_deploy.runtime.stream import OnError, StreamResult

_UINT8 = np.dtype(np.uint8)
_PREPARED_AXES = 4  # of prepared images (N, H, W, C); one image has two or three


# The method that returns the answers of each meaning.
_METHODS: dict[Meaning, str] = {
    "classes": "classify", "labels": "classify", "binary": "classify", "values": "predict", "embedding": "embed",
}  # fmt: skip


def check_top_k(top_k: int | None) -> None:
    """Raise `UsageError` for a number of classes that is no whole number from 1 on."""
    if top_k is not None:
        check_count("top_k", top_k)


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
        self._decoder = Decoder.for_output(info.output, info.answers, opened.labels, info.path)
        # Classes need no threshold and no conversion: the shortest way from a row of outputs to the answer.
        self._threshold = LABEL_THRESHOLD if info.answers.meaning == "labels" else None
        self._shape = (*info.size, info.channels)
        self._batch = info.input.shape[0]
        # A prepared array can be the input tensor itself: the fastest models take a third of a millisecond.
        self._direct = self._encode.identity and self._batch == 1 and info.preprocess.channels == "rgb"
        self._lock = Lock()
        self._closed = False
        self._process = os.getpid()

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
        scores: str | None = None,
        isolate: bool | None = None,
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
            scores: what the outputs mean: `classes`, `labels`, `binary`, `values` or `embedding`. A file that does not
                say it means what its last operation suggests; `info.assumptions` has a sentence about what was assumed.
            isolate: True runs the interpreter in a child process with limits on memory and time, for files of unknown
                origin: a crash or a hang becomes an `InputError`, also during `classify`. Unix only. False opens the
                file in this process without a trial. By default a lone file is tried once in a child process and then
                opened in this one; what passed is remembered. The files of a bundle need no trial.

        Raises:
            InputError: the file does not exist, is damaged, was changed after the export or is not an image
                classifier, or the number of labels is not the number of classes.
            UsageError: an option makes no sense here, neither the file nor an option says something that is needed
                (the message names it), or a child process is needed and cannot be started.
            MissingExtraError: no interpreter for the file is installed; the message has the install line.
        """
        options = OpenOptions(
            precision=precision,
            backend=backend,
            threads=threads,
            labels=labels,
            resize=resize,
            preprocess=preprocess,
            scores=scores,
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

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the answers: labels, or numbers where there are none; (negative, positive) of a binary model."""
        return self._decoder.names

    def classify(self, source: Source, top_k: int | None = None, *, threshold: float | None = None) -> list[Prediction]:
        """Return the likeliest names of one image, best first; among equal scores the lower index comes first.

        Of classes these are the `top_k` best. Labels are independent of each other: all with a probability from the
        threshold on are returned, which may be none. A binary model has the negative name (index 0, probability 1 - p)
        and the positive one (index 1, p).

        Args:
            source: anything that `load_pixels` takes. A uint8 array of exactly the model's (height, width, channels),
                in RGB, is used without resizing.
            top_k: most names to return; by default 5 classes, or all labels from the threshold on.
            threshold: leave out names with a lower probability; by default 0.5 for labels and none for others.

        Raises:
            InputError: the image cannot be read.
            UsageError: `top_k` is below 1, the model answers with values or an embedding, or the classifier is closed.
        """
        if self._direct and isinstance(source, np.ndarray) and source.shape == self._shape and source.dtype == _UINT8:
            return self._named(self._run(source[np.newaxis]).reshape(-1), top_k, threshold)
        return self._named(self._row(source), top_k, threshold)

    def classify_batch(
        self, sources: Iterable[Source], top_k: int | None = None, *, threshold: float | None = None
    ) -> list[list[Prediction]]:
        """Classify several images, in order, as many at a time as the model's batch takes; see `classify`."""
        self._check_classify(top_k)
        predictions: list[list[Prediction]] = []
        pending = iter(sources)
        while chunk := [self._load(source) for source in islice(pending, self._batch)]:
            predictions += [self._named(row, top_k, threshold) for row in self._rows(np.stack(chunk))]
        return predictions

    def classify_stream(
        self,
        frames: Iterable[Source | Frame],
        top_k: int | None = None,
        *,
        threshold: float | None = None,
        on_error: OnError = "raise",
        workers: int | None = None,
        ahead: int | None = None,
    ) -> Generator[StreamResult, None, None]:
        """Classify a stream of images, in order; see `answer_stream`.

        Raises `UsageError` at once for options that make no sense, and for a model that answers with numbers.
        """
        self._check_classify(top_k)
        return self.answer_stream(frames, top_k, threshold=threshold, on_error=on_error, workers=workers, ahead=ahead)

    def answer(self, source: Source, top_k: int | None = None, *, threshold: float | None = None) -> Answer:
        """Return what `classify`, `predict` or `embed` returns for one image, as the model's answers mean."""
        check_top_k(top_k)
        return self._decoded(self._row(source), top_k, threshold)

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
        """Answer a stream of images, in order, while the next ones are decoded and prepared.

        Inference runs in the thread that takes the results. At most `ahead` + 1 frames are held, however many there
        are: new ones are taken only as results are taken. Closing the generator (the end of its `for` loop, `close`,
        Ctrl-C) ends its threads and closes `frames`, which is iterated in those threads, one at a time. If `frames`
        does not return from its `next` within two seconds then, its thread goes on and closes it later.

        Args:
            frames: anything that `classify` takes, one after the other, or the `Frame` objects of
                `mbn_deploy.runtime.frames`. An array must not be changed before its result has come.
            top_k: see `classify`.
            threshold: see `classify`.
            on_error: `raise` the `InputError` of an unreadable frame in its place, which ends the stream, or `yield`
                it as `StreamResult.error` and go on. An error of `frames` itself always ends the stream.
            workers: threads that decode; by default the usable processors, at least 2, at most 4.
            ahead: frames that may be prepared in advance; by default 2 × `workers`, and 1 for cameras, whose frames
                grow old.

        Raises:
            UsageError: at once, for options that make no sense.
        """
        from mbn_deploy.runtime.stream import answer_frames

        check_top_k(top_k)
        return answer_frames(
            frames,
            self.prepare,
            lambda tensor: self.decode(self.run_raw(tensor), top_k, threshold=threshold),
            on_error=on_error,
            workers=workers,
            ahead=ahead,
        )

    @overload
    def predict(self, source: Pixels) -> Floats: ...

    @overload
    def predict(self, source: Source) -> list[Value]: ...

    def predict(self, source: Any) -> list[Value] | Floats:
        """Return the numbers of a regression for one image, or the answers of any model to many prepared images.

        Args:
            source: one image, as `classify` takes it, for a model whose answers are values. Or prepared images, for any
                model: uint8 (N, height, width, channels) as `load_pixels` returns them, of the model's size, channels
                in the order of `info.preprocess.channels`. N may differ from the model's batch.

        Returns:
            The values of one image, in the order of the outputs. For prepared images float32 (N, outputs): the
            probabilities of classes or labels, the probability of a binary model's positive name, values or features.

        Raises:
            InputError: the image cannot be read.
            UsageError: prepared images have another shape or type, the answers to one image are no values, or the
                classifier is closed.
        """
        if isinstance(source, np.ndarray) and source.ndim == _PREPARED_AXES:
            return self._predict_prepared(source)
        self._check_method("predict")
        return self._decoder.values(self._row(source))

    def embed(self, source: Source) -> Floats:
        """Return the feature vector of one image, float32 (features,).

        Args:
            source: anything that `load_pixels` takes; see `classify`.

        Raises:
            InputError: the image cannot be read.
            UsageError: the model's answers are no embedding, or the classifier is closed.
        """
        self._check_method("embed")
        return self._decoder.vector(self._row(source))

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

    def rank(self, output: Array, top_k: int | None = None, *, threshold: float | None = None) -> list[Prediction]:
        """Return the likeliest names of the first image in an output of `run_raw`: the third step of `classify`."""
        return self._named(_first_row(output), top_k, threshold)

    def decode(self, output: Array, top_k: int | None = None, *, threshold: float | None = None) -> Answer:
        """Return the answer of the first image in an output of `run_raw`: the third step of `answer`."""
        check_top_k(top_k)
        return self._decoded(_first_row(output), top_k, threshold)

    def close(self) -> None:
        """Wait for a running inference, then free the interpreter. Later calls raise `UsageError`."""
        if self._forked:
            return
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

    def __reduce__(self) -> str:
        """Refuse pickling and copying: an interpreter is part of its process."""
        raise UsageError("a classifier cannot be copied or sent to another process: open the file again there")

    @property
    def _forked(self) -> bool:
        """Whether this process was forked from the one that opened the file."""
        return os.getpid() != self._process

    def _check_process(self) -> None:
        """Refuse to run in a forked process: the interpreter's threads, and those that hold locks, are not there."""
        if self._forked:
            raise UsageError(
                f"{self._info.path} was opened before this process was forked, and its interpreter does not outlive "
                "that: open the file in each process"
            )

    def _check_method(self, method: str) -> None:
        meaning = self._info.answers.meaning
        if method != _METHODS[meaning]:
            raise UsageError(f"{self._info.path} answers with {meaning}: call `{_METHODS[meaning]}`, not `{method}`")

    def _check_classify(self, top_k: int | None) -> None:
        self._check_method("classify")
        check_top_k(top_k)

    def _named(self, row: Array, top_k: int | None, threshold: float | None) -> list[Prediction]:
        """Return the likeliest names of a row of raw outputs, which may be overwritten; see `classify`."""
        self._check_classify(top_k)
        if threshold is not None:
            check_number("threshold", threshold)
        least = self._threshold if threshold is None else threshold
        if top_k is None:
            top_k = TOP_K if least is None else len(self._decoder.names)
        best = self._decoder.predictions(row, top_k)
        return best if least is None else [prediction for prediction in best if prediction.score >= least]

    def _decoded(self, row: Array, top_k: int | None, threshold: float | None) -> Answer:
        """Return the answer that a row of raw outputs means; `row` may be overwritten."""
        method = _METHODS[self._info.answers.meaning]
        if method == "classify":
            return self._named(row, top_k, threshold)
        return self._decoder.values(row) if method == "predict" else self._decoder.vector(row)

    def _predict_prepared(self, pixels: Pixels) -> Floats:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._shape:
            raise UsageError(
                f"pixels must be uint8 (N, {', '.join(map(str, self._shape))}), not {pixels.dtype} {pixels.shape}"
            )
        if not len(pixels):
            return np.empty((0, self._info.classes), np.float32)
        rows = np.stack(list(self._rows(pixels)))
        return to_answers(rows, self._info.output, self._info.answers, self._info.path)

    def _row(self, source: Source) -> Array:
        """Return the raw outputs (outputs,) for one image."""
        pixels = self._load(source)[np.newaxis]
        return self._run(self._encode(pixels)).reshape(-1) if self._batch == 1 else next(self._rows(pixels))

    def _load(self, source: Any) -> Pixels:
        info = self._info
        return load_pixels(source, info.size, info.preprocess, info.channels)

    def _run(self, tensor: Array) -> Array:
        """Run one inference at a time: the interpreter's buffers are shared."""
        self._check_process()
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


def _first_row(output: Array) -> Array:
    """Return a copy of the first image's outputs (outputs,), which ranking overwrites."""
    row: Array = output[0].reshape(-1).copy()
    return row


def _check_output(info: ModelInfo) -> None:
    """Raise `InputError` unless the output has one row of scores for each image of the batch."""
    shape, batch = info.output.shape, info.input.shape[0]
    if np.prod(shape[1:]) != info.classes:
        raise InputError(f"{info.path}: its output has shape {shape}; that of a classifier is (N, classes)")
    if shape[0] != batch:
        raise InputError(f"{info.path}: it takes {batch} images and returns {shape[0]} rows of scores")
