"""Scores of many images: the best classes of each, and probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbn_deploy.answers import Scores
from mbn_deploy.arrays import Floats
from mbn_deploy.runtime.ranking import sigmoid

ClassIndices = npt.NDArray[np.int64]

# Half a level of an 8-bit probability: two files cannot be told apart below it, and log 0 is avoided.
LEAST_PROBABILITY = 1 / 512


def top_classes(scores: Floats, count: int) -> ClassIndices:
    """Return the `count` best classes of each row, best first: (images, count).

    Equal scores, which 8-bit outputs often have, are ordered by class index.
    """
    order: ClassIndices = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order


def sigmoid_of(scores: Floats, kind: Scores) -> Floats:
    """Return the probability of each output: the sigmoid of logits; other scores are returned as they are."""
    return sigmoid(scores) if kind == "logits" else scores


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
