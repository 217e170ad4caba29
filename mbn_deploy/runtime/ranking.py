"""From a row of scores to the best classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError


@dataclass(frozen=True)
class Prediction:
    """One class of a classification.

    `score` is a probability for models that end in softmax, sigmoid or (softmax is applied then) logits.
    `label` is the index as text where the model has no labels.
    """

    index: int
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.score:7.2%}  {self.label}"


def top_indices(scores: npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    """Indices of the `count` largest of `scores` (classes,), best first; of equal ones the lower index first.

    8-bit scores are often equal, so the order must not depend on how numpy partitions.
    Raises `InputError` for NaN.
    """
    count = min(count, scores.size)
    threshold = np.partition(scores, scores.size - count)[scores.size - count]
    candidates = np.flatnonzero(scores >= threshold)
    if candidates.size < count:  # NaN sorts last and compares false
        raise InputError("the model answered with NaN; the file or the input is damaged")
    chosen = scores[candidates]
    # Stable, so equal scores stay in the order of their indices; widened, because -0 is all uint8 can negate.
    order = np.argsort(-chosen.astype(np.float64), kind="stable")[:count]
    return candidates[order]


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Along the last axis, in float64 inside."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def label_of(labels: Sequence[str] | None, index: int) -> str:
    """The label, or the index as text where there are no labels."""
    return str(index) if labels is None else labels[index]
