"""Turn a model's raw outputs into scores and the best classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Floats
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.tensors import to_real

# Up to this many classes, repeated argmax is faster than sorting a thousand scores.
FEW = 16


@dataclass(frozen=True, init=False)
class Prediction:
    """One class of a classification.

    Attributes:
        index: the class, counted from 0.
        label: its label; the index as text where the model has no labels.
        score: a probability if the model ends in softmax, sigmoid or logits (see `logits_to_probabilities`).
    """

    index: int
    label: str
    score: float

    def __init__(self, index: int, label: str, score: float) -> None:
        # The generated __init__ of a frozen dataclass takes twice the time, which shows beside the fastest models.
        values = self.__dict__
        values["index"], values["label"], values["score"] = index, label, score

    def __str__(self) -> str:
        return f"{self.score:7.2%}  {self.label}"


def top_indices(scores: Array, count: int) -> list[int]:
    """Return the indices of the `count` largest of `scores` (classes,), best first; ties go to the lower index."""
    best: list[int] = np.argsort(np.negative(scores.astype(np.float64)), kind="stable")[:count].tolist()
    return best


def lowest_value(dtype: npt.DTypeLike) -> float:
    """Return the smallest value of a dtype."""
    return int(np.iinfo(dtype).min) if np.dtype(dtype).kind in "iu" else -math.inf


def softmax(logits: Floats) -> Floats:
    """Return the softmax along the last axis, computed in float64."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    probabilities: Floats = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def sigmoid(logits: Floats) -> Floats:
    """Return the sigmoid of each number, computed in float64."""
    powers = np.exp(-np.abs(logits.astype(np.float64)))  # of negative numbers only: nothing overflows
    probabilities: Floats = (np.where(logits < 0, powers, 1.0) / (1.0 + powers)).astype(np.float32)
    return probabilities


def logits_to_probabilities(logits: Floats) -> Floats:
    """Return the softmax along the last axis; the sigmoid of a single logit, whose softmax would always be 1."""
    return softmax(logits) if logits.shape[-1] > 1 else sigmoid(logits)


@dataclass(frozen=True)
class Ranker:
    """Ranks rows of finite probabilities, one a name.

    Raw integers are ranked as they are, and only the best ones are dequantized, by the table `levels` for 8-bit
    outputs. Other outputs are float probabilities, or become those first (`output`).
    """

    labels: Sequence[str]
    output: TensorInfo | None
    levels: dict[float, float] | None
    lowest: float

    @classmethod
    def for_output(cls, output: TensorInfo | None, labels: Sequence[str]) -> Ranker:
        """Create the ranker of a model's output tensor; None for rows that are float probabilities already."""
        levels = None if output is None else _dequantization_table(output)
        return cls(
            labels=labels,
            output=output,
            levels=levels,
            lowest=-math.inf if output is None or levels is None else lowest_value(output.dtype),
        )

    def __call__(self, row: Array, count: int) -> list[Prediction]:
        """Return the `count` best names of a row (names,), best first; `row` is overwritten."""
        if self.levels is None and self.output is not None:
            row = to_real(row, self.output)
        if count > FEW:
            return [self._prediction(index, row.item(index)) for index in top_indices(row, count)]
        return self._few_best(row, count)

    def _few_best(self, row: Array, count: int) -> list[Prediction]:
        """Take the largest value `count` times; a taken one becomes the lowest value."""
        # One loop without calls of our own: beside a third of a millisecond of inference they would show.
        labels, levels, lowest = self.labels, self.levels, self.lowest
        best: list[Prediction] = []
        for _ in range(count):
            index = int(row.argmax())
            value = row.item(index)
            if value == lowest:  # so are all others now, including those that were taken
                return best + self._lowest_classes(best, min(count, row.size))
            best.append(Prediction(index, labels[index], value if levels is None else levels[value]))
            row[index] = lowest
        return best

    def _lowest_classes(self, best: list[Prediction], count: int) -> list[Prediction]:
        """Return the first classes that are not in `best`, with the lowest score, to make `count` in all."""
        taken = [prediction.index for prediction in best]
        left = [index for index in range(count) if index not in taken]
        return [self._prediction(index, self.lowest) for index in left[: count - len(best)]]

    def _prediction(self, index: int, value: float) -> Prediction:
        return Prediction(index, self.labels[index], value if self.levels is None else self.levels[value])


def _dequantization_table(output: TensorInfo) -> dict[float, float] | None:
    """Return the real number of each of the 256 values of an 8-bit output; None for other types."""
    if output.dtype not in ("uint8", "int8"):
        return None
    integers = np.arange(256, dtype=np.uint8).view(output.dtype)
    return dict(zip(integers.tolist(), to_real(integers, output).tolist(), strict=True))
