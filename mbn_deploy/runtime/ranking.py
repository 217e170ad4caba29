"""From a row of scores to the best classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Scores, TensorInfo
from mbn_deploy.runtime.tensors import to_real

# Up to so many, looking for the largest again and again is faster than sorting a thousand scores.
FEW = 16
_BELOW_ALL = -(2**31)  # no score of an integer output is so low


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


def top_indices(scores: npt.NDArray[Any], count: int) -> list[int]:
    """Indices of the `count` largest of `scores` (classes,), best first; of equal ones the lower index first.

    8-bit scores are often equal, so the order must not depend on how numpy partitions.
    Raises `InputError` for NaN.
    """
    count = min(count, scores.size)
    exact = scores.dtype.kind in "iu"
    work: npt.NDArray[Any] = scores.astype(np.int32 if exact else np.float64)
    if not exact and np.isnan(work).any():
        raise InputError("the model answered with NaN; the file or the input is damaged")
    if count > FEW:
        ranked: list[int] = np.argsort(np.negative(work), kind="stable")[:count].tolist()
        return ranked
    lowest = _BELOW_ALL if exact else -np.inf
    best = []
    for _ in range(count):
        index = int(work.argmax())
        best.append(index)
        work[index] = lowest
    return best


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Along the last axis, in float64 inside."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


@dataclass(frozen=True)
class Ranker:
    """Turns raw outputs of one model into predictions.

    Ranks the integers as they are and dequantizes the best only, by a table where there are 256 values.
    """

    output: TensorInfo
    scores: Scores
    labels: Sequence[str]
    levels: dict[int, float] | None

    @classmethod
    def of(cls, output: TensorInfo, scores: Scores, labels: Sequence[str] | None) -> Ranker:
        """For a model's output; without `labels` a class is called by its index."""
        names = [str(index) for index in range(max(output.shape[1:]))] if labels is None else labels
        levels = None
        if scores != "logits" and output.dtype in ("uint8", "int8"):
            integers = np.arange(256, dtype=np.uint8).view(output.dtype)
            levels = dict(zip(integers.tolist(), to_real(integers, output).tolist(), strict=True))
        return cls(output, scores, names, levels)

    def __call__(self, row: npt.NDArray[Any], count: int) -> list[Prediction]:
        """The `count` best of a row (classes,) in the model's own type."""
        best = top_indices(row, count)
        if self.levels is not None:
            return [Prediction(i, self.labels[i], self.levels[row.item(i)]) for i in best]
        real = self.real(row)
        return [Prediction(i, self.labels[i], real.item(i)) for i in best]

    def real(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scores (..., classes) as float32, after softmax if the model gives logits."""
        real = to_real(rows, self.output)
        return softmax(real) if self.scores == "logits" else real
