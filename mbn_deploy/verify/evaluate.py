"""Accuracy of files on labelled images, each with a confidence interval, and against a reference.

All files see the same images, so the difference of two of them is known better than either: it is
taken image by image. Images are decoded once and streamed through every file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.data.dataset import Classes, Dataset
from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Preprocess, Scores
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.statistics import Estimate, paired_difference, proportion

Predictor = Callable[[Pixels], Floats]  # uint8 (N, H, W, C) -> scores (N, classes)

BATCH = 32
TOP = 5
# Half a level of an 8-bit probability: two files cannot be told apart below it, and log 0 is avoided.
LEAST_PROBABILITY = 1 / 512


@dataclass(frozen=True)
class Accuracy:
    """Share of images whose class is the first answer, and is among the first five."""

    images: int
    top1: Estimate
    top5: Estimate


@dataclass(frozen=True)
class Comparison:
    """A file against a reference on the same images.

    `top1_difference` is file minus reference, `None` without labels; `agreement` the share of images
    with the same first answer, right or wrong; `kl` the mean Kullback-Leibler divergence of the file's
    probabilities from the reference's, in nats; `confidence_drift` the mean change of the first
    answer's probability.
    The last two are `None` for scores that are not one distribution (sigmoid).
    """

    reference: str
    top1_difference: Estimate | None
    agreement: Estimate
    kl: float | None
    confidence_drift: float | None


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a data set found: `accuracy` by file, `comparison` by file but the reference.

    `accuracy` is empty for images without labels.
    """

    dataset: str
    images: int
    accuracy: dict[str, Accuracy]
    comparison: dict[str, Comparison]


def evaluate(
    predictors: Mapping[str, Predictor],
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    *,
    reference: str | None = None,
    scores: Scores = "softmax",
    progress: Progress = silent,
) -> Evaluation:
    """Run every predictor on every image; `reference` is the name of the one to compare the others with.

    Predictors are given pixels at `size` (height, width), resized as `preprocess` says, and normalize
    by themselves. `scores` says what they return. Raises `InputError` for an image that cannot be read.
    """
    tallies = tallied(predictors, dataset, size, preprocess, reference=reference, scores=scores, progress=progress)
    return concluded([tallies], dataset, reference)


def tallied(
    predictors: Mapping[str, Predictor],
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    *,
    reference: str | None = None,
    scores: Scores = "softmax",
    progress: Progress = silent,
) -> dict[str, Tally]:
    """What `evaluate` counts, by predictor, before anything is concluded; `dataset` may be a part of a larger one."""
    tallies = {name: Tally() for name in predictors}
    done = 0
    for pixels, classes in _batches(dataset, size, preprocess, progress):
        found = {name: predict(pixels) for name, predict in predictors.items()}
        for name, answer in found.items():
            tallies[name].add(answer, classes, None if reference is None else found[reference], scores)
        done += len(pixels)
        progress("evaluate", done, len(dataset))
    return tallies


def concluded(parts: Sequence[Mapping[str, Tally]], dataset: Dataset, reference: str | None) -> Evaluation:
    """The evaluation of `dataset`, whose consecutive parts were tallied one by one.

    Bit for bit what one pass gives, if every part but the last holds a multiple of `BATCH` images: a tally keeps what
    it found image by image, and is concluded from all of it, in order.
    """
    tallies = {name: Tally.joined([part[name] for part in parts]) for name in parts[0]}
    return Evaluation(
        dataset=dataset.name,
        images=len(dataset),
        accuracy={name: tally.accuracy() for name, tally in tallies.items()} if dataset.labelled else {},
        comparison=_comparisons(tallies, reference, labelled=dataset.labelled),
    )


def remembered(predict: Predictor) -> Predictor:
    """`predict` that works out the answer to the same pixels once: the reference of several evaluations."""
    known: dict[str, Floats] = {}

    def answer(pixels: Pixels) -> Floats:
        key = sha256(pixels.tobytes())
        if key not in known:
            known[key] = predict(pixels)
        return known[key]

    return answer


def _comparisons(tallies: Mapping[str, Tally], reference: str | None, *, labelled: bool) -> dict[str, Comparison]:
    if reference is None:
        return {}
    compared = {n: tally.compare(reference, tallies[reference]) for n, tally in tallies.items() if n != reference}
    return compared if labelled else {name: replace(c, top1_difference=None) for name, c in compared.items()}


def keras_predictor(model: Any, preprocess: Preprocess) -> Predictor:
    """The float reference: `preprocess` normalizes as the Keras model's own input wants it.

    For a model that rescales inside this is [0, 255], unlike the exported file's preprocessing. It is
    given pixels as the files are, red first, also where it wants blue first.
    """

    @cache
    def traced() -> Any:
        """The model for any number of images: Keras' own `predict_on_batch` traces it again for the last batch."""
        import tensorflow as tf

        images = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
        return tf.function(lambda values: model(values, training=False)).get_concrete_function(images)

    def predict(pixels: Pixels) -> Floats:
        turned = pixels[..., ::-1] if preprocess.channels == "bgr" else pixels
        answer = np.asarray(traced()(normalize(turned, preprocess)), np.float32)
        return answer.reshape(len(pixels), -1)

    return predict


def top_classes(scores: Floats, count: int) -> npt.NDArray[np.int64]:
    """Classes by falling score, (N, count); of equal ones, which 8 bits often make, the lower class first."""
    order: npt.NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order


def answers(scores: Floats, kind: Scores) -> Floats:
    """Scores (N, classes) of which the highest is the answer.

    A lone score is that of "yes", class 0: "no" stands beside it, or every answer would be the same.
    """
    if scores.shape[1] > 1:
        return scores
    return np.concatenate([scores, np.zeros_like(scores) if kind == "logits" else 1 - scores], axis=1)


def probabilities(scores: Floats, kind: Scores) -> Floats | None:
    """Rows that sum to one, none of them below `LEAST_PROBABILITY` before that; `None` for sigmoid scores."""
    if kind == "sigmoid":
        return None
    values = scores.astype(np.float64)
    if kind == "logits":
        values = np.exp(values - values.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
    values = np.maximum(values, LEAST_PROBABILITY)
    normalized: Floats = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return normalized


def _batches(
    dataset: Dataset, size: tuple[int, int], preprocess: Preprocess, progress: Progress
) -> Iterator[tuple[Pixels, Classes]]:
    images: list[Pixels] = []
    start = 0
    for image in dataset.images(size, preprocess, progress):
        images.append(image)
        if len(images) == BATCH or start + len(images) == len(dataset):
            yield np.stack(images), dataset.classes[start : start + len(images)]
            start, images = start + len(images), []


@dataclass(eq=False)
class Tally:
    """What is kept of each image: not the scores, which are too many for a large data set."""

    first: list[npt.NDArray[np.int64]] = field(default_factory=list)
    right: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    among: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    kl: list[Floats] = field(default_factory=list)
    drift: list[Floats] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Tally]) -> Tally:
        """One tally of the images of all `parts`, in their order."""
        columns = {column.name: [array for p in parts for array in getattr(p, column.name)] for column in fields(cls)}
        return cls(**columns)

    def add(self, scores: Floats, classes: Classes, reference: Floats | None, kind: Scores) -> None:
        """A batch: scores (N, classes), classes (N,); raises `InputError` for scores that are not finite."""
        if not np.isfinite(scores).all():
            raise InputError("a model answers with values that are not finite")
        scores, reference = answers(scores, kind), None if reference is None else answers(reference, kind)
        top = top_classes(scores, min(TOP, scores.shape[1]))
        hits = top == classes[:, None]
        self.first.append(top[:, 0])
        self.right.append(hits[:, 0])
        self.among.append(hits.any(1))
        mine, theirs = probabilities(scores, kind), None if reference is None else probabilities(reference, kind)
        if mine is not None and theirs is not None:
            self.kl.append((theirs * np.log(theirs / mine)).sum(1))
            self.drift.append(mine.max(1) - theirs.max(1))

    def accuracy(self) -> Accuracy:
        """Top-1 and top-5 of all images so far."""
        right, among = np.concatenate(self.right), np.concatenate(self.among)
        n = len(right)
        return Accuracy(n, proportion(int(right.sum()), n), proportion(int(among.sum()), n))

    def compare(self, name: str, reference: Tally) -> Comparison:
        """Against the tally called `name` of the same images."""
        first, theirs = np.concatenate(self.first), np.concatenate(reference.first)
        return Comparison(
            reference=name,
            top1_difference=paired_difference(np.concatenate(self.right), np.concatenate(reference.right)),
            agreement=proportion(int((first == theirs).sum()), len(first)),
            kl=_mean(self.kl),
            confidence_drift=_mean(self.drift),
        )


def _mean(parts: list[Floats]) -> float | None:
    return float(np.concatenate(parts).mean(dtype=np.float64)) if parts else None
