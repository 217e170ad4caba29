"""Measures classes: top-1, top-5 where there are more than five classes, accuracy by class, and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Floats
from mbn_deploy.runtime.ranking import softmax
from mbn_deploy.verify.measures.measure import Accuracy, Columns, Comparison, Confusion, Measure, Part
from mbn_deploy.verify.scores import floored_probabilities, top_classes
from mbn_deploy.verify.statistics import Estimate, negative, paired_difference, proportion

TOP = 5
KEPT = 3  # answers an image whose probabilities are kept, for people to look at
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassesMeasure(Measure):
    """One of several classes. The guard judges the drop of top-1, or without labels the share of other answers."""

    main: ClassVar[str] = "top1"

    def columns(self, scores: Floats, reference: Floats | None, first: int) -> Columns:
        """Return the best five classes, the probabilities of the best three, and the distance of probabilities."""
        del first
        kind = self.answers.scores
        best = top_classes(scores, min(TOP, scores.shape[1]))
        probabilities = softmax(scores) if kind == "logits" else scores
        columns = {
            "best": best.astype(np.int32),
            "probabilities": np.take_along_axis(probabilities, best[:, :KEPT], axis=1),
        }
        ours = floored_probabilities(scores, kind)
        theirs = None if reference is None else floored_probabilities(reference, kind)
        if ours is None or theirs is None:
            return columns
        columns["kl"] = (theirs * np.log(theirs / ours)).sum(1)
        columns["drift"] = ours.max(1) - theirs.max(1)
        return columns

    def accuracy(self, own: Columns, truth: Array) -> Accuracy:
        """Return top-1, top-5 of more than five classes, the accuracy of each class, and the confusions."""
        best, n = own["best"], len(truth)
        hits = best == truth[:, None]
        figures = {"top1": proportion(int(hits[:, 0].sum()), n)}
        if len(self.names) > TOP:
            figures["top5"] = proportion(int(hits.any(1).sum()), n)
        return Accuracy(
            images=n,
            figures=figures,
            parts=class_parts(best[:, 0], truth, self.names),
            confusions=confusions(best[:, 0], truth, self.names),
        )

    def compare(self, name: str, own: Columns, reference: Columns, truth: Array | None) -> Comparison:
        """Compare the first answers, and with them the probabilities."""
        more = {"kl": mean_or_none(own.get("kl")), "confidence_drift": mean_or_none(own.get("drift"))}
        return compare_answers(name, own["best"][:, 0], reference["best"][:, 0], truth, more)

    def differences(self, own: Columns, reference: Columns) -> Array:
        """Return 1 where the first answers differ."""
        apart: Array = (own["best"][:, 0] != reference["best"][:, 0]).astype(np.float32)
        return apart

    def right(self, own: Columns, truth: Array) -> Array:
        """Return whether the first answer is right."""
        right: Array = own["best"][:, 0] == truth
        return right

    def certainty(self, own: Columns) -> Array:
        """Return the probability of the first answer."""
        return own["probabilities"][:, 0]

    def described(self, own: Columns, image: int) -> tuple[tuple[str, str], ...]:
        """Return the best classes with their probabilities in percent."""
        pairs = zip(own["best"][image], own["probabilities"][image], strict=False)
        return tuple((self.names[int(index)], percent(float(probability))) for index, probability in pairs)

    def described_truth(self, truth: Array, image: int) -> str:
        """Return the name of the right class."""
        return self.names[int(truth[image])]


def class_parts(answers: Array, truth: Array, names: Sequence[str]) -> tuple[Part, ...]:
    """Return the share of right answers of each class that has images."""
    images = np.bincount(truth, minlength=len(names))
    right = np.bincount(truth[answers == truth], minlength=len(names))
    return tuple(
        Part(name, int(count), {"accuracy": float(hits / count)})
        for name, count, hits in zip(names, images, right, strict=True)
        if count
    )


def confusions(answers: Array, truth: Array, names: Sequence[str]) -> tuple[Confusion, ...]:
    """Count the wrong answers by pairs of classes, the most frequent first, then in the order of the classes."""
    wrong = answers != truth
    pairs, counts = np.unique(np.stack([truth[wrong], answers[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple(
        Confusion(names[int(right)], names[int(answer)], int(count))
        for (right, answer), count in zip(pairs[order], counts[order], strict=True)
    )


def compare_answers(
    name: str, own: Array, reference: Array, truth: Array | None, more: dict[str, float | None]
) -> Comparison:
    """Compare one answer an image: which are the same, and with labels how many more or fewer are right."""
    same = proportion(int((own == reference).sum()), len(own))
    if truth is None:
        loss, difference = Estimate(1 - same.value, 1 - same.high, 1 - same.low), None
    else:
        difference = paired_difference(own == truth, reference == truth)
        loss = negative(difference)
    return Comparison(reference=name, difference=difference, agreement=same, loss=loss, more=more)


def mean_or_none(values: Array | None) -> float | None:
    """Return the mean, or None if there are no values."""
    return None if values is None else float(values.mean(dtype=np.float64))


def percent(share: float) -> str:
    """Write a share in percent for people to read."""
    return f"{100 * share:.1f} %"
