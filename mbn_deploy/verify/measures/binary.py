"""Measures a binary model: accuracy at a threshold, both kinds of error, and the area under the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mbn_deploy.arrays import Array, Doubles, Floats
from mbn_deploy.verify.measures.classes import class_parts, compare_answers, confusions, mean_or_none, percent
from mbn_deploy.verify.measures.measure import Accuracy, Columns, Comparison, Measure
from mbn_deploy.verify.scores import floored_probabilities, sigmoid_of
from mbn_deploy.verify.statistics import Estimate, group_of, jackknife, proportion


@dataclass(frozen=True)
class BinaryMeasure(Measure):
    """The probability of a positive answer. The guard judges the drop of accuracy, or the share of other decisions."""

    main: ClassVar[str] = "accuracy"

    def columns(self, scores: Floats, reference: Floats | None, first: int) -> Columns:
        """Return the probability of the positive answer, and the distance of probabilities."""
        del first
        p = sigmoid_of(scores, self.answers.scores)[:, 0]
        if reference is None:
            return {"probability": p}
        q = sigmoid_of(reference, self.answers.scores)[:, 0]
        ours, theirs = (floored_probabilities(np.stack([1 - each, each], axis=1), "softmax") for each in (p, q))
        if ours is None or theirs is None:  # never for a softmax
            return {"probability": p}
        return {"probability": p, "kl": (theirs * np.log(theirs / ours)).sum(1), "drift": ours.max(1) - theirs.max(1)}

    def _decisions(self, own: Columns) -> Array:
        # Of two equal probabilities the runtime names the negative answer first, and Keras' BinaryAccuracy counts it.
        return (own["probability"] > self.threshold).astype(np.int32)

    def accuracy(self, own: Columns, truth: Array) -> Accuracy:
        """Return accuracy, the share of negatives and of positives that are wrong, and the area under the curve."""
        answers = self._decisions(own)
        figures = {"accuracy": proportion(int((answers == truth).sum()), len(truth))}
        for key, side in (("false_positives", 0), ("false_negatives", 1)):
            images = int((truth == side).sum())
            if images:
                figures[key] = proportion(int(((truth == side) & (answers != side)).sum()), images)
        if 0 < int((truth == 1).sum()) < len(truth):
            figures["auc"] = area_under_curve(own["probability"], truth)
        return Accuracy(
            images=len(truth),
            figures=figures,
            parts=class_parts(answers, truth, self.names),
            confusions=confusions(answers, truth, self.names),
        )

    def compare(self, name: str, own: Columns, reference: Columns, truth: Array | None) -> Comparison:
        """Compare the decisions, and with them the probabilities."""
        more = {"kl": mean_or_none(own.get("kl")), "confidence_drift": mean_or_none(own.get("drift"))}
        return compare_answers(name, self._decisions(own), self._decisions(reference), truth, more)

    def differences(self, own: Columns, reference: Columns) -> Array:
        """Return 1 where the decisions differ."""
        apart: Array = (self._decisions(own) != self._decisions(reference)).astype(np.float32)
        return apart

    def right(self, own: Columns, truth: Array) -> Array:
        """Return whether the decision is right."""
        right: Array = self._decisions(own) == truth
        return right

    def certainty(self, own: Columns) -> Array:
        """Return how far the probability is from the threshold."""
        return np.abs(own["probability"] - np.float32(self.threshold))

    def described(self, own: Columns, image: int) -> tuple[tuple[str, str], ...]:
        """Return both names with their probabilities in percent, the decision first."""
        p = float(own["probability"][image])
        pair = (self.names[0], percent(1 - p)), (self.names[1], percent(p))
        return pair[::-1] if p > self.threshold else pair

    def described_truth(self, truth: Array, image: int) -> str:
        """Return the right one of the two names."""
        return self.names[int(truth[image])]


def area_under_curve(scores: Array, truth: Array) -> Estimate:
    """Return the area under the ROC curve: how often a positive has a higher score than a negative; ties count half.

    The interval is the jackknife's.
    """
    groups = group_of(len(truth))

    def area(kept: Array) -> float:
        negatives = np.sort(scores[kept & (truth == 0)])
        positives = scores[kept & (truth == 1)]
        if not len(negatives) or not len(positives):
            return float("nan")
        below, up_to = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
        return float((below + up_to).sum() / (2 * len(negatives) * len(positives)))

    everything = np.ones(len(truth), bool)
    parts: Doubles = np.array([area(groups != group) for group in range(groups.max() + 1)])
    return jackknife(area(everything), parts).within(0.0, 1.0)
