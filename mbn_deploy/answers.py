"""The meaning of a model's outputs: one value, from the Keras model to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mbn_deploy.errors import UnknownNameError, UsageError

Meaning = Literal["classes", "labels", "binary", "values", "embedding"]
Scores = Literal["softmax", "sigmoid", "logits", "none"]

MEANINGS: tuple[str, ...] = get_args(Meaning)

# How a model of each meaning may end. `logits` of classes become probabilities by softmax, those of labels and of a
# binary model by a sigmoid. Classes that end in sigmoids are ranked, but do not add up to 1.
ENDS: dict[Meaning, tuple[Scores, ...]] = {
    "classes": ("softmax", "logits", "sigmoid"),
    "labels": ("sigmoid", "logits"),
    "binary": ("sigmoid", "logits"),
    "values": ("none",),
    "embedding": ("none",),
}


@dataclass(frozen=True)
class Answers:
    """The meaning of a model's outputs (`meaning`), and the last function that its file computes (`scores`).

    - `classes`: one of several classes, by softmax or as logits;
    - `labels`: any number of labels, each by a sigmoid of its own or as its logit;
    - `binary`: yes or no by one sigmoid or logit, the probability of the second of two names;
    - `values`: numbers of a regression;
    - `embedding`: a feature vector.

    Raises `UsageError` for a meaning that a model with this end cannot have.
    """

    meaning: Meaning = "classes"
    scores: Scores = "softmax"

    def __post_init__(self) -> None:
        if self.meaning not in MEANINGS:
            raise UnknownNameError("meaning of answers", str(self.meaning), MEANINGS)
        if self.scores not in get_args(Scores):
            raise UnknownNameError("scores", str(self.scores), get_args(Scores))
        if self.scores not in ENDS[self.meaning]:
            raise UsageError(
                f"a model whose last operation is {self.scores} does not answer with {self.meaning}; "
                f"{self.meaning} end in {' or '.join(ENDS[self.meaning])}"
            )

    @classmethod
    def for_outputs(cls, scores: Scores, outputs: int, meaning: Meaning | None = None) -> Answers:
        """Return the answers of a model with so many outputs; `meaning` None is what its end suggests."""
        return cls(usual_meaning(scores, outputs) if meaning is None else meaning, scores)

    @property
    def are_scores(self) -> bool:
        """Whether the answers are probabilities of names (classes, labels, binary), not numbers."""
        return self.meaning in ("classes", "labels", "binary")

    @property
    def are_probabilities(self) -> bool:
        """Whether the file itself computes probabilities, in [0, 1]."""
        return self.are_scores and self.scores != "logits"

    def described(self, outputs: int) -> str:
        """Say what a model with so many outputs answers with, as "4 classes (softmax)"."""
        if self.meaning == "values":
            return f"{outputs} value{'' if outputs == 1 else 's'}"
        if self.meaning == "embedding":
            return f"an embedding of {outputs} features"
        if self.meaning == "binary":
            return f"yes or no ({self.scores})"
        return f"{outputs} {self.meaning} ({self.scores})"

    def name_count(self, outputs: int) -> int:
        """Return how many names a model with so many outputs has: two for a binary one, else one an output."""
        return 2 if self.meaning == "binary" else outputs

    def label_counts(self, outputs: int) -> tuple[int, ...]:
        """Return how many labels may be given: as many as names; of a binary model also the positive one alone."""
        return (1, 2) if self.meaning == "binary" else (outputs,)

    def names(self, labels: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
        """Return the names: `labels`, or the numbers of the outputs.

        A binary model has (negative, positive); of a lone label the negative name is `not LABEL`.
        """
        if self.meaning != "binary":
            return tuple(map(str, range(outputs))) if labels is None else tuple(labels)
        if labels is None:
            return ("negative", "positive")
        return (f"not {labels[0]}", labels[0]) if len(labels) == 1 else tuple(labels)


def usual_meaning(scores: Scores, outputs: int) -> Meaning:
    """Return what the end of a model suggests; manifests and files that do not say their meaning mean this."""
    if scores == "none":
        return "values"
    if scores == "softmax":
        return "classes"
    if outputs == 1:
        return "binary"
    return "labels" if scores == "sigmoid" else "classes"
