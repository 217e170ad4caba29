"""Measures labels, each of which is right or wrong by itself: average precision, precision and recall of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mbn_deploy.arrays import Array, Doubles, Floats
from mbn_deploy.verify.measures.classes import percent
from mbn_deploy.verify.measures.measure import Accuracy, Columns, Comparison, Measure, Part
from mbn_deploy.verify.scores import sigmoid_of
from mbn_deploy.verify.statistics import Estimate, group_of, jackknife, negative, proportion


@dataclass(frozen=True)
class LabelsMeasure(Measure):
    """Any number of labels an image.

    The guard judges the drop of the mean average precision, which needs no threshold; without labels the share of
    label decisions that are other ones.
    """

    main: ClassVar[str] = "mean_average_precision"

    def columns(self, scores: Floats, reference: Floats | None, first: int) -> Columns:
        """Return the probability of every label: average precision ranks all images by it."""
        del reference, first
        return {"probabilities": sigmoid_of(scores, self.answers.scores)}

    def _decisions(self, own: Columns) -> Array:
        decisions: Array = own["probabilities"] >= self.threshold  # as the runtime returns labels
        return decisions

    def accuracy(self, own: Columns, truth: Array) -> Accuracy:
        """Return the mean average precision, the share of images with exactly the right labels, and each label's own.

        Labels that no image has are left out of the mean.
        """
        answers = self._decisions(own)
        exact = (answers == truth).all(axis=1)
        of_labels = average_precisions(own["probabilities"], truth)
        return Accuracy(
            images=len(truth),
            figures={
                self.main: _mean_with_interval(of_labels),
                "exact_match": proportion(int(exact.sum()), len(truth)),
            },
            parts=tuple(
                Part(name, int(right.sum()), _figures(answer, right, float(average)))
                for name, answer, right, average in zip(self.names, answers.T, truth.T, of_labels[0], strict=True)
            ),
        )

    def compare(self, name: str, own: Columns, reference: Columns, truth: Array | None) -> Comparison:
        """Compare the decisions, label by label, and the mean average precision."""
        same = self._decisions(own) == self._decisions(reference)
        agreement = proportion(float(same.mean(axis=1).sum()), len(same))
        difference = None
        loss = Estimate(1 - agreement.value, 1 - agreement.high, 1 - agreement.low)
        if truth is not None:
            ours, theirs = (average_precisions(each["probabilities"], truth) for each in (own, reference))
            difference = _mean_with_interval(ours, theirs)
            loss = negative(difference)
        return Comparison(
            reference=name,
            difference=difference,
            agreement=agreement,
            loss=loss,
            parts=tuple(
                Part(label, len(same), {"agreement": float(share)})
                for label, share in zip(self.names, same.mean(axis=0), strict=True)
            ),
        )

    def differences(self, own: Columns, reference: Columns) -> Array:
        """Return the number of labels with another decision."""
        apart: Array = (self._decisions(own) != self._decisions(reference)).sum(axis=1)
        return apart

    def right(self, own: Columns, truth: Array) -> Array:
        """Return whether every label is right."""
        right: Array = (self._decisions(own) == truth).all(axis=1)
        return right

    def certainty(self, own: Columns) -> Array:
        """Return how far the probability that is nearest to the threshold is from it."""
        margins: Array = np.abs(own["probabilities"] - np.float32(self.threshold)).min(axis=1)
        return margins

    def described(self, own: Columns, image: int) -> tuple[tuple[str, str], ...]:
        """Return the labels over the threshold and the best one, with their probabilities in percent."""
        row = own["probabilities"][image]
        order = np.argsort(-row, kind="stable")
        shown = order[: max(1, int((row >= self.threshold).sum()))]
        return tuple((self.names[int(index)], percent(float(row[index]))) for index in shown)

    def described_truth(self, truth: Array, image: int) -> str:
        """Return the right labels, or that there are none."""
        return ", ".join(self.names[int(index)] for index in np.flatnonzero(truth[image])) or "no label"


def _figures(answers: Array, truth: Array, average: float) -> dict[str, float | None]:
    hits, said, images = int((answers & truth).sum()), int(answers.sum()), int(truth.sum())
    return {
        "average_precision": None if np.isnan(average) else average,
        "precision": hits / said if said else None,
        "recall": hits / images if images else None,
    }


def average_precisions(probabilities: Array, truth: Array) -> Doubles:
    """Return the average precision of each label, of all images and without each group of the jackknife.

    It is the sum over thresholds of the precision times the gain of recall; images of equal probability, of which
    8-bit files have many, count at once. The result has the shape (1 + groups, labels) and NaN for labels that no
    image has.

    Source: average precision as in W. Su, Y. Yuan, M. Zhu, "A relationship between the average precision and the area
    under the ROC curve", ICTIR 2015, without interpolation.
    """
    groups = group_of(len(truth))
    count = int(groups.max()) + 1
    result: Doubles = np.full((1 + count, truth.shape[1]), np.nan)
    for label in range(truth.shape[1]):
        order = np.argsort(-probabilities[:, label], kind="stable")
        scores, right, group = probabilities[order, label], truth[order, label], groups[order]
        result[0, label] = _average_precision(scores, right)
        for each in range(count):
            kept = group != each
            result[1 + each, label] = _average_precision(scores[kept], right[kept])
    return result


def _average_precision(scores: Array, right: Array) -> float:
    """Return the average precision of probabilities in falling order; NaN if none of them is right."""
    if not right.any():
        return float("nan")
    last = np.append(scores[1:] != scores[:-1], True)
    hits = np.cumsum(right)[last]
    said = np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) * hits / said).sum() / hits[-1])


def _mean_with_interval(ours: Doubles, theirs: Doubles | None = None) -> Estimate:
    """Return the mean over the labels, or its difference from another model's, with the jackknife's interval."""
    if not np.isfinite(ours[0]).any():
        return Estimate(0.0, 0.0, 0.0)  # no image has any label
    means = np.array([float(np.nanmean(row)) if np.isfinite(row).any() else np.nan for row in ours])
    if theirs is None:
        return jackknife(float(means[0]), means[1:]).within(0.0, 1.0)
    others = np.array([float(np.nanmean(row)) if np.isfinite(row).any() else np.nan for row in theirs])
    return jackknife(float(means[0] - others[0]), means[1:] - others[1:]).within(-1.0, 1.0)
