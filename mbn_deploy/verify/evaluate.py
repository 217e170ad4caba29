"""Accuracy of models on labelled images, each with a confidence interval, and in comparison to a reference.

All models see the same images, and are compared image by image: the difference of two accuracies is known more
precisely than either of them. Images are decoded once and go through every model batch by batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.data.dataset import Dataset
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.measures.measure import Accuracy, Columns, Comparison, Measure, joined

Predictor = Callable[[Pixels], Floats]  # uint8 (N, H, W, C) -> scores (N, outputs)

BATCH = 32
_GRAPH_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")  # `tf.name_scope` takes no other names
_NO_SCORES: Mapping[str, Floats] = MappingProxyType({})


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation, by the names of the models.

    Attributes:
        dataset: name of the data set.
        images: number of its images.
        accuracy: by model; empty for images without labels.
        comparison: by model, without the reference; empty without a reference.
        measure: what was measured.
        answers: what is kept of the answers to each image, by model, see `Measure.columns`.
        resized: how the images were resized, if they were all resized alike.
    """

    dataset: str
    images: int
    accuracy: dict[str, Accuracy]
    comparison: dict[str, Comparison]
    measure: Measure
    answers: dict[str, Columns] = field(default_factory=dict, repr=False, compare=False)
    resized: Preprocess | None = field(default=None, compare=False)


def evaluate(
    predictors: Mapping[str, Predictor],
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    measure: Measure,
    *,
    known: Mapping[str, Floats] = _NO_SCORES,
    reference: str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate models on every image of `dataset`.

    Args:
        predictors: by name; each takes pixels and does its own normalization.
        dataset: images, with or without labels.
        size: (height, width) of the pixels.
        preprocess: says how images are resized.
        measure: what is measured, see `measure_for`.
        known: scores (images, outputs) of models that have seen these images before, by name.
        reference: name of the model that the others are compared with.
        progress: is told how many images are done.

    Raises:
        InputError: an image cannot be read, or a model returns values that are not finite.
    """
    tallies = tally_images(
        predictors, dataset, size, preprocess, measure, known=known, reference=reference, progress=progress
    )
    return replace(conclude([tallies], dataset, measure, reference), resized=preprocess)


def tally_images(
    predictors: Mapping[str, Predictor],
    dataset: Dataset,
    size: tuple[int, int],
    preprocess: Preprocess,
    measure: Measure,
    *,
    known: Mapping[str, Floats] = _NO_SCORES,
    reference: str | None = None,
    first: int = 0,
    progress: Progress = silent,
) -> dict[str, list[Columns]]:
    """Return what `evaluate` keeps of each batch, by model.

    `dataset` may be a part of the whole, which begins with the image number `first`; see `conclude`.
    """
    tallies: dict[str, list[Columns]] = {name: [] for name in (*known, *predictors)}
    for start, pixels in _batches(dataset, size, preprocess, progress):
        batch = slice(start, start + len(pixels))
        answers = {name: rows[batch] for name, rows in known.items()}
        answers |= {name: predict(pixels) for name, predict in predictors.items()}
        for name, scores in answers.items():
            if not np.isfinite(scores).all():
                raise InputError(f"{name}: it answers with values that are not finite")
            compared = answers[reference] if reference else None
            tallies[name].append(measure.columns(scores, compared, first + start))
        progress("evaluate", batch.stop, len(dataset))
    return tallies


def conclude(
    parts: Sequence[Mapping[str, list[Columns]]], dataset: Dataset, measure: Measure, reference: str | None
) -> Evaluation:
    """Return the evaluation of `dataset`, whose consecutive parts were tallied one by one.

    The result equals that of one pass bit for bit if every part but the last holds a multiple of `BATCH` images:
    columns are kept image by image, and figures are taken over all of them in order.
    """
    answers = {name: joined([batch for part in parts for batch in part[name]]) for name in parts[0]}
    truth = dataset.truth
    others = [name for name in answers if name != reference] if reference is not None else []
    return Evaluation(
        dataset=dataset.name,
        images=len(dataset),
        accuracy={} if truth is None else {name: measure.accuracy(own, truth) for name, own in answers.items()},
        comparison={
            name: measure.compare(str(reference), answers[name], answers[str(reference)], truth) for name in others
        },
        measure=measure,
        answers=answers,
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
    """Return the scores of every image of `dataset`, (images, outputs); `progress` is told of them under `step`."""
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
    run = keras_function(model)
    return lambda pixels: run(keras_input(pixels, preprocess))


def keras_input(pixels: Pixels | Floats, preprocess: Preprocess) -> Floats:
    """Return the input (N, H, W, C) of a Keras model for pixels in [0, 255], red first."""
    return normalize(pixels[..., ::-1] if preprocess.channels == "bgr" else pixels, preprocess)


def keras_function(model: Any) -> Callable[[Floats], Floats]:
    """Return a function of a Keras model's input (N, H, W, C) that returns its scores (N, outputs)."""

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

    def run(values: Floats) -> Floats:
        return np.asarray(traced()(values), np.float32).reshape(len(values), -1)

    return run


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        yield from _all_layers(layer) if hasattr(layer, "layers") else ()


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
