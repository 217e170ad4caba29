"""From a row of scores to the best classes."""

from __future__ import annotations

import math
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
_NAN = "the model answered with NaN; the file or the input is damaged"


@dataclass(frozen=True, init=False)
class Prediction:
    """One class of a classification.

    `score` is a probability for models that end in softmax, sigmoid or logits (see `of_logits`).
    `label` is the index as text where the model has no labels.
    """

    index: int
    label: str
    score: float

    def __init__(self, index: int, label: str, score: float) -> None:
        # The generated one of a frozen class takes twice the time, which shows beside the fastest models.
        values = self.__dict__
        values["index"], values["label"], values["score"] = index, label, score

    def __str__(self) -> str:
        return f"{self.score:7.2%}  {self.label}"


def top_indices(scores: npt.NDArray[Any], count: int) -> list[int]:
    """Indices of the `count` largest of `scores` (classes,), best first; of equal ones the lower index first.

    Raises `InputError` for NaN.
    """
    wide = scores.astype(np.float64)
    if np.isnan(wide).any():
        raise InputError(_NAN)
    best: list[int] = np.argsort(np.negative(wide), kind="stable")[:count].tolist()
    return best


def lowest_of(dtype: npt.DTypeLike) -> float:
    """The smallest value of a type of scores."""
    return int(np.iinfo(dtype).min) if np.dtype(dtype).kind in "iu" else -math.inf


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Along the last axis, in float64 inside."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def of_logits(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities along the last axis: softmax; of one logit alone its sigmoid, since softmax would say 1 to all."""
    if logits.shape[-1] > 1:
        return softmax(logits)
    return softmax(np.concatenate([logits, np.zeros_like(logits)], axis=-1))[..., :1]


@dataclass(frozen=True)
class Ranker:
    """Turns raw outputs of one model into predictions.

    Ranks the integers as they are and dequantizes the best only, by a table where there are 256 values.
    """

    output: TensorInfo
    scores: Scores
    labels: Sequence[str]
    levels: dict[float, float] | None
    lowest: float

    @classmethod
    def of(cls, output: TensorInfo, scores: Scores, labels: Sequence[str] | None) -> Ranker:
        """For a model's output; without `labels` a class is called by its index."""
        names = [str(index) for index in range(max(output.shape[1:]))] if labels is None else labels
        if scores == "logits" or output.dtype not in ("uint8", "int8"):
            return cls(output, scores, names, None, -math.inf)
        integers = np.arange(256, dtype=np.uint8).view(output.dtype)
        levels = dict(zip(integers.tolist(), to_real(integers, output).tolist(), strict=True))
        return cls(output, scores, names, levels, lowest_of(output.dtype))

    def __call__(self, row: npt.NDArray[Any], count: int) -> list[Prediction]:
        """The `count` best of a row (classes,) in the model's own type, as `top_indices`. The row is used up."""
        if self.levels is None:
            row = self.real(row)
        if count > FEW:
            return [self._prediction(index, row.item(index)) for index in top_indices(row, count)]
        # One loop without calls of our own: beside a third of a millisecond of inference they would show.
        labels, levels, lowest = self.labels, self.levels, self.lowest
        found: list[Prediction] = []
        for _ in range(count):
            index = int(row.argmax())
            value = row.item(index)
            if value == lowest:  # so are all others now, those too that were taken
                return found + self._rest(found, min(count, row.size))
            if value != value:  # noqa: PLR0124 - NaN, which argmax finds first
                raise InputError(_NAN)
            found.append(Prediction(index, labels[index], value if levels is None else levels[value]))
            row[index] = lowest
        return found

    def _prediction(self, index: int, value: float) -> Prediction:
        return Prediction(index, self.labels[index], value if self.levels is None else self.levels[value])

    def _rest(self, found: list[Prediction], count: int) -> list[Prediction]:
        """The first classes that were not found, with the lowest score, to make `count` of them."""
        taken = [prediction.index for prediction in found]
        left = [index for index in range(count) if index not in taken]
        return [self._prediction(index, self.lowest) for index in left[: count - len(found)]]

    def real(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scores (..., classes) as float32, probabilities if the model gives logits."""
        real = to_real(rows, self.output)
        return of_logits(real) if self.scores == "logits" else real
