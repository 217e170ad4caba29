"""Accuracy of models on labelled images, each with a confidence interval, and in comparison to a reference.

All models see the same images, and are compared image by image: the difference of two accuracies is known more
precisely than either of them. Images are decoded once and go through every model batch by batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.answers import Scores
from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.data.dataset import Classes, Dataset
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.scores import (
    TopAnswers,
    floored_probabilities,
    top_answers,
    top_classes,
    with_no_class,
)
from mbn_deploy.verify.statistics import Estimate, paired_difference, proportion

Predictor = Callable[[Pixels], Floats]  # uint8 (N, H, W, C) -> scores (N, classes)

BATCH = 32
_GRAPH_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")  # `tf.name_scope` takes no other names
TOP = 5
_NO_SCORES: Mapping[str, Floats] = MappingProxyType({})


@dataclass(frozen=True)
class Accuracy:
    """The share of images whose class is the first answer (`top1`) or among the first five (`top5`)."""

    images: int
    top1: Estimate
    top5: Estimate


@dataclass(frozen=True)
class Comparison:
    """A model in comparison to a reference on the same images.

    Attributes:
        reference: name of the reference.
        top1_difference: top-1 of the model minus top-1 of the reference; None without labels.
        agreement: share of images with the same first answer, right or wrong.
        kl: mean Kullback-Leibler divergence of the model's probabilities from the reference's, in nats; None for
            sigmoid scores, which are not one distribution.
        confidence_drift: mean change of the first answer's probability; None for sigmoid scores.
    """

    reference: str
    top1_difference: Estimate | None
    agreement: Estimate
    kl: float | None
    confidence_drift: float | None


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation, by the names of the models.

    Attributes:
        dataset: name of the data set.
        images: number of its images.
        accuracy: by model; empty for images without labels.
        comparison: by model, without the reference; empty without a reference.
        answers: the best answers to each image, by model.
    """

    dataset: str
    images: int
    accuracy: dict[str, Accuracy]
    comparison: dict[str, Comparison]
    answers: dict[str, TopAnswers] = field(default_factory=dict, repr=False, compare=False)


def evaluate(
    predictors: Mapping[str, Predictor],
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    *,
    known: Mapping[str, Floats] = _NO_SCORES,
    reference: str | None = None,
    scores: Scores = "softmax",
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate models on every image of `dataset`.

    Args:
        predictors: by name; each takes pixels and does its own normalization.
        dataset: images, with or without labels.
        size: (height, width) of the pixels.
        preprocess: says how images are resized.
        known: scores (images, classes) of models that have seen these images before, by name.
        reference: name of the model that the others are compared with.
        scores: kind of scores that the models return.
        progress: is told how many images are done.

    Raises:
        InputError: an image cannot be read, or a model returns values that are not finite.
    """
    tallies = tally_images(
        predictors, dataset, size, preprocess, known=known, reference=reference, scores=scores, progress=progress
    )
    return conclude([tallies], dataset, reference)


def tally_images(
    predictors: Mapping[str, Predictor],
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    *,
    known: Mapping[str, Floats] = _NO_SCORES,
    reference: str | None = None,
    scores: Scores = "softmax",
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return what `evaluate` counts, by model; `dataset` may be a part of the whole, see `conclude`."""
    tallies = {name: Tally() for name in (*known, *predictors)}
    for start, pixels in _batches(dataset, size, preprocess, progress):
        batch = slice(start, start + len(pixels))
        answers = {name: rows[batch] for name, rows in known.items()}
        answers |= {name: predict(pixels) for name, predict in predictors.items()}
        for name, answer in answers.items():
            tallies[name].add(answer, dataset.classes[batch], answers[reference] if reference else None, scores)
        progress("evaluate", batch.stop, len(dataset))
    return tallies


def conclude(parts: Sequence[Mapping[str, Tally]], dataset: Dataset, reference: str | None) -> Evaluation:
    """Return the evaluation of `dataset`, whose consecutive parts were tallied one by one.

    The result equals that of one pass bit for bit if every part but the last holds a multiple of `BATCH` images: a
    tally keeps its counts image by image, and means are taken over all of them in order.
    """
    tallies = {name: Tally.joined([part[name] for part in parts]) for name in parts[0]}
    return Evaluation(
        dataset=dataset.name,
        images=len(dataset),
        accuracy={name: tally.accuracy() for name, tally in tallies.items()} if dataset.labelled else {},
        comparison=_comparisons(tallies, reference, labelled=dataset.labelled),
        answers={name: TopAnswers.joined(tally.answers) for name, tally in tallies.items()},
    )


def predict_all(
    predict: Predictor,
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    *,
    step: str,
    progress: Progress = silent,
) -> Floats:
    """Return the scores of every image of `dataset`, (images, classes); `progress` is told of them under `step`."""
    rows = []
    for start, pixels in _batches(dataset, size, preprocess, progress):
        rows.append(predict(pixels))
        progress(step, start + len(pixels), len(dataset))
    return np.concatenate(rows)


def keras_predictor(model: Any, preprocess: Preprocess) -> Predictor:
    """Return a predictor for a Keras model, whose own input wants pixels as `preprocess` says.

    For a model that rescales inside, that is [0, 255], unlike the preprocessing of the exported files. Pixels are red
    first, as files take them; they are turned around for a model that wants blue first.
    """

    @cache
    def traced() -> Any:
        """Trace the model once for any number of images; Keras' `predict_on_batch` traces each batch size anew.

        TensorFlow's graphs do not take every layer name that Keras does, such as one with spaces: a model with such a
        name is called directly, which is slower.
        """
        import tensorflow as tf

        if not all(_GRAPH_NAME.fullmatch(layer.name) for layer in (model, *_all_layers(model))):
            return lambda values: model(values, training=False)
        images = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
        return tf.function(lambda values: model(values, training=False)).get_concrete_function(images)

    def predict(pixels: Pixels) -> Floats:
        ordered = pixels[..., ::-1] if preprocess.channels == "bgr" else pixels
        answer = np.asarray(traced()(normalize(ordered, preprocess)), np.float32)
        return answer.reshape(len(pixels), -1)

    return predict


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        yield from _all_layers(layer) if hasattr(layer, "layers") else ()


@dataclass(eq=False)
class Tally:
    """The counts of one model, batch by batch. Of the scores only the best are kept: all of them would be too many."""

    answers: list[TopAnswers] = field(default_factory=list)
    right: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    among: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    kl: list[Floats] = field(default_factory=list)
    drift: list[Floats] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Tally]) -> Tally:
        """Return the tally of the images of all `parts`, in their order."""
        columns = {column.name: [batch for p in parts for batch in getattr(p, column.name)] for column in fields(cls)}
        return cls(**columns)

    def add(self, scores: Floats, classes: Classes, reference: Floats | None, kind: Scores) -> None:
        """Count a batch: scores (N, classes) of the model and the reference, right classes (N,).

        Raises `InputError` for scores that are not finite.
        """
        if not np.isfinite(scores).all():
            raise InputError("a model answers with values that are not finite")
        self.answers.append(top_answers(scores, kind))
        complete = with_no_class(scores, kind)
        hits = top_classes(complete, min(TOP, complete.shape[1])) == classes[:, None]
        self.right.append(hits[:, 0])
        self.among.append(hits.any(1))
        if reference is not None:
            self._compare(complete, with_no_class(reference, kind), kind)

    def _compare(self, scores: Floats, reference: Floats, kind: Scores) -> None:
        mine, theirs = floored_probabilities(scores, kind), floored_probabilities(reference, kind)
        if mine is not None and theirs is not None:
            self.kl.append((theirs * np.log(theirs / mine)).sum(1))
            self.drift.append(mine.max(1) - theirs.max(1))

    def first_answers(self) -> Classes:
        """Return the best class of every image, (N,)."""
        return np.concatenate([batch.classes[:, 0] for batch in self.answers])

    def accuracy(self) -> Accuracy:
        """Return top-1 and top-5 of all images so far."""
        right, among = np.concatenate(self.right), np.concatenate(self.among)
        n = len(right)
        return Accuracy(n, proportion(int(right.sum()), n), proportion(int(among.sum()), n))

    def compare(self, name: str, reference: Tally) -> Comparison:
        """Compare with the model called `name`, whose tally of the same images is `reference`."""
        same = self.first_answers() == reference.first_answers()
        return Comparison(
            reference=name,
            top1_difference=paired_difference(np.concatenate(self.right), np.concatenate(reference.right)),
            agreement=proportion(int(same.sum()), len(same)),
            kl=_mean(self.kl),
            confidence_drift=_mean(self.drift),
        )


def _comparisons(tallies: Mapping[str, Tally], reference: str | None, *, labelled: bool) -> dict[str, Comparison]:
    if reference is None:
        return {}
    compared = {n: tally.compare(reference, tallies[reference]) for n, tally in tallies.items() if n != reference}
    return compared if labelled else {name: replace(c, top1_difference=None) for name, c in compared.items()}


def _batches(
    dataset: Dataset, size: tuple[int, int], preprocess: Preprocess, progress: Progress
) -> Iterator[tuple[int, Pixels]]:
    """Yield batches of pixels, each with the number of its first image."""
    images: list[Pixels] = []
    start = 0
    for image in dataset.images(size, preprocess, progress):
        images.append(image)
        if len(images) == BATCH or start + len(images) == len(dataset):
            yield start, np.stack(images)
            start, images = start + len(images), []


def _mean(parts: list[Floats]) -> float | None:
    return float(np.concatenate(parts).mean(dtype=np.float64)) if parts else None
