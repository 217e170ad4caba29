"""Scores of many images as answers: the best classes, and probabilities of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbn_deploy.answers import Scores
from mbn_deploy.arrays import Floats
from mbn_deploy.runtime.ranking import softmax

ClassIndices = npt.NDArray[np.int64]

KEPT = 3  # answers an image that are kept for people to look at
# Half a level of an 8-bit probability: two files cannot be told apart below it, and log 0 is avoided.
LEAST_PROBABILITY = 1 / 512


@dataclass(frozen=True, eq=False)
class TopAnswers:
    """The best classes of each image, best first, and their probabilities.

    Both arrays have the shape (images, n); n is `KEPT`, or the number of classes if that is less.
    """

    classes: ClassIndices
    probabilities: Floats

    @classmethod
    def joined(cls, parts: Sequence[TopAnswers]) -> TopAnswers:
        """Return the answers of consecutive groups of images as one."""
        return cls(
            classes=np.concatenate([part.classes for part in parts]),
            probabilities=np.concatenate([part.probabilities for part in parts]),
        )


def top_answers(scores: Floats, kind: Scores) -> TopAnswers:
    """Return the best `KEPT` answers of each row of `scores` (images, classes)."""
    complete = with_no_class(scores, kind)
    classes = top_classes(complete, min(KEPT, complete.shape[1]))
    probabilities = softmax(complete) if kind == "logits" else complete
    return TopAnswers(classes, np.take_along_axis(probabilities, classes, axis=1))


def top_classes(scores: Floats, count: int) -> ClassIndices:
    """Return the `count` best classes of each row, best first: (images, count).

    Equal scores, which 8-bit outputs often have, are ordered by class index.
    """
    order: ClassIndices = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order


def with_no_class(scores: Floats, kind: Scores) -> Floats:
    """Give a model with a single score (class 0, "yes") a second one for "no".

    Without it every answer of such a model would be class 0. Other scores are returned as they are.
    """
    if scores.shape[1] > 1:
        return scores
    return np.concatenate([scores, np.zeros_like(scores) if kind == "logits" else 1 - scores], axis=1)


def floored_probabilities(scores: Floats, kind: Scores) -> Floats | None:
    """Return rows that sum to one and were raised to `LEAST_PROBABILITY` before; `None` for sigmoid scores."""
    if kind == "sigmoid":
        return None
    values = scores.astype(np.float64)
    if kind == "logits":
        values = np.exp(values - values.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
    values = np.maximum(values, LEAST_PROBABILITY)
    normalized: Floats = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return normalized
