"""The shape that measures of every meaning have: columns of values an image, figures, and comparisons.

    scores of a batch ──► columns (a value or a short row an image) ──► figures and comparisons of all images

Columns of consecutive batches are joined end to end, so that a data set may be measured in parts (a sweep does).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.arrays import Array, Floats
from mbn_deploy.verify.statistics import Estimate

Columns = Mapping[str, Array]  # by name; the first axis counts images
Figures = Mapping[str, float | None]

THRESHOLD = 0.5  # see `Measure.threshold`
_NO_FIGURES: Figures = MappingProxyType({})


@dataclass(frozen=True)
class Metric:
    """A figure: its name, a short one for terminals, its unit, and whether less of it is better.

    A `share` is a fraction of 1, shown in percent; a `number` has the unit of the model's values; a `cosine` is near 1.
    """

    title: str
    short: str
    unit: Literal["share", "number", "cosine"] = "share"
    lower_is_better: bool = False


# Every figure by its key in the manifest and in JSON, in the order of tables.
METRICS: dict[str, Metric] = {
    "top1": Metric("top-1", "top-1 %"),
    "top5": Metric("top-5", "top-5 %"),
    "accuracy": Metric("accuracy", "right %"),
    "false_positives": Metric("false positives", "FP %", lower_is_better=True),
    "false_negatives": Metric("false negatives", "FN %", lower_is_better=True),
    "auc": Metric("area under ROC", "AUC %"),
    "mean_average_precision": Metric("mean average precision", "mAP %"),
    "exact_match": Metric("all labels right", "exact %"),
    "mean_absolute_error": Metric("mean absolute error", "MAE", "number", lower_is_better=True),
    "root_mean_square_error": Metric("root mean square error", "RMSE", "number", lower_is_better=True),
    "neighbour_accuracy": Metric("nearest neighbour of the same class", "neighbour %"),
    "agreement": Metric("agreement with Keras", "agrees %"),
    "mean_distance": Metric("mean distance from Keras", "distance", "number", lower_is_better=True),
    "largest_distance": Metric("largest distance from Keras", "largest", "number", lower_is_better=True),
    "cosine": Metric("mean cosine to Keras", "cosine", "cosine"),
    "least_cosine": Metric("least cosine to Keras", "least", "cosine"),
}
# Figures of single labels, and of probabilities, which tables of files do not show.
PART_METRICS: dict[str, Metric] = {
    "average_precision": Metric("average precision", "AP %"),
    "precision": Metric("precision", "precision %"),
    "recall": Metric("recall", "recall %"),
}


def shown_metrics(measured: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the keys of the figures that records of `measured` files have, in the order of tables."""
    records = list(measured)
    return [key for key in METRICS if any(record.get(key) is not None for record in records)]


@dataclass(frozen=True)
class Part:
    """The figures of one class, label or value, and the number of images that they come from."""

    name: str
    images: int
    figures: Figures


@dataclass(frozen=True)
class Confusion:
    """How many images of the class `truth` were answered with the class `answer`."""

    truth: str
    answer: str
    images: int


@dataclass(frozen=True)
class Accuracy:
    """A model's answers beside the truth.

    Attributes:
        images: number of images.
        figures: by key of `METRICS`; the first is the one that counts (`Measure.main`).
        parts: figures of each class, label or value, in their order.
        confusions: wrong answers by pairs of classes, the most frequent first; empty where there are no classes.
    """

    images: int
    figures: Mapping[str, Estimate]
    parts: tuple[Part, ...] = ()
    confusions: tuple[Confusion, ...] = ()

    @property
    def main(self) -> Estimate:
        """The figure that counts."""
        return next(iter(self.figures.values()))


@dataclass(frozen=True)
class Comparison:
    """A model in comparison to a reference on the same images.

    Attributes:
        reference: name of the reference.
        difference: the main figure of the model minus that of the reference; None without labels.
        agreement: share of images with the same answer, right or wrong; None for values, which are never the same.
        loss: what the accuracy guard judges, as a fraction of 1: see `Measure.compare`.
        more: other figures by key of `METRICS`; None where one makes no sense.
        parts: figures of each label or value.
    """

    reference: str
    difference: Estimate | None
    agreement: Estimate | None
    loss: Estimate
    more: Figures = field(default_factory=dict)
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Measure(ABC):
    """Measures answers of one meaning.

    Attributes:
        answers: the meaning of the scores, and whether they are probabilities or logits.
        names: of classes, labels or values; (negative, positive) of a binary model.
        threshold: the probability from which on a label is given, and above which a binary model says yes.
        every: compare every n-th image with all others, for embeddings.
    """

    main: ClassVar[str]  # the figure that counts, by its key
    unlabelled_main: ClassVar[str] = "agreement"  # the one that counts without labels
    decides: ClassVar[bool] = True  # whether two answers can be the same; numbers never quite are

    answers: Answers
    names: tuple[str, ...]
    threshold: float = THRESHOLD
    every: int = 1

    @abstractmethod
    def columns(self, scores: Floats, reference: Floats | None, first: int) -> Columns:
        """Return what is kept of a batch, whose first image has the number `first`.

        Both arrays have the shape (N, outputs) and hold what the files return: probabilities or logits.
        """

    @abstractmethod
    def accuracy(self, own: Columns, truth: Array) -> Accuracy:
        """Return the figures of all images; `truth` is that of the data set, see `Dataset`."""

    @abstractmethod
    def compare(self, name: str, own: Columns, reference: Columns, truth: Array | None) -> Comparison:
        """Compare with the model called `name`, whose columns of the same images are `reference`.

        The loss of the comparison is how much the main figure falls, or without labels a bound of it.
        """

    @abstractmethod
    def differences(self, own: Columns, reference: Columns) -> Array:
        """Return for each image how much the answers differ, (N,); 0 where they are the same answer."""

    @abstractmethod
    def right(self, own: Columns, truth: Array) -> Array:
        """Return for each image whether the answer is right, bool (N,)."""

    @abstractmethod
    def described(self, own: Columns, image: int) -> tuple[tuple[str, str], ...]:
        """Return the answer to an image as (name, value) for people to read, the most important first."""

    @abstractmethod
    def described_truth(self, truth: Array, image: int) -> str:
        """Return the right answer to an image for people to read."""

    def certainty(self, own: Columns) -> Array:
        """Return how sure of its answer the model is, (N,); 0 where there is no such thing."""
        return np.zeros(len(next(iter(own.values()))), np.float32)


def joined(parts: Sequence[Columns]) -> Columns:
    """Join the columns of consecutive batches."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
