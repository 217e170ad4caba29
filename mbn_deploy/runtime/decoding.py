"""Turn a model's raw outputs into what they mean: ranked names with probabilities, values, or a vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mbn_deploy.answers import Answers, Meaning
from mbn_deploy.arrays import Array, Floats
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.ranking import Prediction, Ranker, logits_to_probabilities, sigmoid
from mbn_deploy.runtime.tensors import to_real

TOP_K = 5  # classes that are returned if nothing else is said
LABEL_THRESHOLD = 0.5  # the probability from which on a label is returned, and a binary model says yes
_ROUNDING = 1e-3  # by which a probability that was computed with rounding may lie outside [0, 1]


@dataclass(frozen=True)
class Value:
    """One number of a regression.

    Attributes:
        index: the output, counted from 0.
        label: its name; the index as text where the model has no names.
        value: the number, in the units of the training.
    """

    index: int
    label: str
    value: float

    def __str__(self) -> str:
        return f"{self.value:12.6g}  {self.label}"


Answer = list[Prediction] | list[Value] | Floats  # what an image is answered with, by the meaning of the outputs

# What the file's numbers (..., outputs) have to go through to be answers: by (meaning, end of the file).
_LOGITS: Mapping[Meaning, Callable[[Floats], Floats]] = {
    "classes": logits_to_probabilities,
    "labels": sigmoid,
    "binary": sigmoid,
}


def to_answers(rows: Array, output: TensorInfo, answers: Answers, where: str = "the model") -> Floats:
    """Return raw outputs (..., outputs) as float32 answers (..., outputs).

    Probabilities of classes or labels, the probability of a binary model's positive name, values, or features.

    Raises `InputError` that names `where` for numbers that are not finite: an infinite logit would become a certain
    answer.
    """
    real = to_real(rows, output)
    check_finite(real, where)
    return _LOGITS[answers.meaning](real) if answers.scores == "logits" else real


def check_finite(numbers: Array, where: str) -> None:
    """Raise `InputError` that names `where`, the file that answered, for NaN and infinite numbers."""
    if not np.isfinite(numbers).all():
        what = "NaN" if np.isnan(numbers).any() else "infinity"
        raise InputError(
            f"{where} answered with a number that is not finite ({what}); the file is damaged, or not made for such a "
            "picture"
        )


@dataclass(frozen=True)
class Decoder:
    """Turns a row of raw outputs (outputs,) of one model into predictions, values or a vector.

    Attributes:
        answers: what the outputs mean.
        output: the output tensor, with its scale and zero point.
        names: the names of the answers: two of a binary model, else one an output.
        rank: ranks a row for `answers` that are probabilities.
        where: the file, which errors name.
    """

    answers: Answers
    output: TensorInfo
    names: tuple[str, ...]
    rank: Ranker
    where: str

    @classmethod
    def for_output(
        cls, output: TensorInfo, answers: Answers, labels: Sequence[str] | None, where: str = "the model"
    ) -> Decoder:
        """Create the decoder of a model's output; without `labels`, names are the numbers of the outputs.

        Raises `InputError` that names `where` for a scale of the output with which answers would not be finite.
        """
        names = answers.names(labels, max(output.shape[1:], default=0))
        direct = answers.are_probabilities and answers.meaning != "binary"
        rank = Ranker.for_output(output if direct else None, names)
        if rank.levels is not None and not np.isfinite(list(rank.levels.values())).all():
            raise InputError(f"{where}: damaged: with a scale of {output.scale:g}, its answers are not finite")
        return cls(answers=answers, output=output, names=names, rank=rank, where=where)

    def predictions(self, row: Array, count: int) -> list[Prediction]:
        """Return the `count` likeliest names, best first; `row` may be overwritten.

        Raises `InputError` for numbers that are not finite, and for numbers that are no probabilities.
        """
        if not self.answers.are_probabilities or self.answers.meaning == "binary":
            row = to_answers(row, self.output, self.answers, self.where)
            if self.answers.meaning == "binary":
                row = np.concatenate([1 - row, row])
        elif row.dtype.kind == "f":
            check_finite(row, self.where)  # also those that are not among the best
        best = self.rank(row, count)
        if best and (best[0].score > 1 or best[-1].score < 0):
            return [self._without_rounding(prediction) for prediction in best]
        return best

    def _without_rounding(self, prediction: Prediction) -> Prediction:
        """Return a prediction with a score in [0, 1]. Raises `InputError` where more than rounding moved it."""
        score = prediction.score
        if not -_ROUNDING <= score <= 1 + _ROUNDING:
            raise InputError(
                f"{self.where} answered {score:g}, which is no probability: it does not end in "
                f"{self.answers.scores}, as it is said to"
            )
        return Prediction(prediction.index, prediction.label, min(max(score, 0.0), 1.0))

    def values(self, row: Array) -> list[Value]:
        """Return the numbers of a regression. Raises `InputError` for numbers that are not finite."""
        numbers = self.vector(row).tolist()
        return [
            Value(index, name, number) for index, (name, number) in enumerate(zip(self.names, numbers, strict=True))
        ]

    def vector(self, row: Array) -> Floats:
        """Return the features (outputs,) as float32. Raises `InputError` for features that are not finite."""
        return to_answers(row, self.output, self.answers, self.where)


def answer_json(answer: Answer, meaning: Meaning) -> dict[str, Any]:
    """Return an answer as JSON values: `predictions`, `values` or `embedding`."""
    if not isinstance(answer, list):
        return {"embedding": [float(feature) for feature in answer]}
    return {"values" if meaning == "values" else "predictions": [asdict(each) for each in answer]}
