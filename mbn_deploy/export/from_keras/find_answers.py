"""Finding what a Keras model's outputs mean: by its end, the loss that it was compiled with, and what the user says."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.answers import Answers, Meaning, Scores, usual_meaning
from mbn_deploy.errors import UsageError
from mbn_deploy.export.from_keras.losses import Loss
from mbn_deploy.export.from_keras.model_end import EndFunction, ModelEnd

OPTION = "--scores"

_SCORES: dict[EndFunction, Scores] = {
    "softmax": "softmax",
    "log_softmax": "logits",  # its softmax is itself
    "sigmoid": "sigmoid",
    "none": "logits",
}
_EXPLAINED: dict[Meaning, str] = {
    "classes": "classes (one of several, as logits)",
    "labels": "labels (independent yes or no, as logits)",
    "binary": "binary (yes or no, as a logit)",
    "values": "values (numbers of a regression)",
    "embedding": "embedding (a feature vector)",
}


@dataclass(frozen=True)
class Head:
    """Everything that a Keras model says about its outputs.

    Attributes:
        where: the model's file or name, for messages.
        end: how its network ends.
        outputs: the number of its outputs.
        loss: the loss that it was compiled with; None if it was not.
        classifies: whether it is known to be a classifier, as the networks of `models` are.
        inner: whether the user has cut the network at a layer that was not one of its outputs.
    """

    where: str
    end: ModelEnd
    outputs: int
    loss: Loss | None = None
    classifies: bool = False
    inner: bool = False


def find_answers(head: Head, requested: Meaning | None = None) -> tuple[Answers, tuple[str, ...]]:
    """Return what the outputs mean, and warnings where the model's end and its loss contradict each other.

    `requested` is what the user says they mean; None if the model has to say it.

    Raises:
        UsageError: the model does not say what its outputs mean, or they cannot mean what is requested.
    """
    if requested is not None:
        _check_possible(head, requested)
    meaning = requested or _found(head)
    if meaning is None:
        raise UsageError(_question(head))
    answers = Answers(meaning, "none" if meaning in ("values", "embedding") else _SCORES[head.end.function])
    doubts = (_constant_softmax(head, answers), None if requested else _contradiction(head, meaning))
    return answers, tuple(doubt for doubt in doubts if doubt is not None)


def _found(head: Head) -> Meaning | None:
    """Return the meaning that the model itself says; None if it does not."""
    function, loss = head.end.function, head.loss
    if function in ("softmax", "log_softmax"):
        return "classes"
    if loss is not None and loss.kind == "values":
        return "values"
    if function == "sigmoid":
        exclusive = loss is not None and loss.kind == "categorical" and head.outputs > 1
        return "classes" if exclusive else usual_meaning("sigmoid", head.outputs)
    return _meaning_without_activation(head)


def _meaning_without_activation(head: Head) -> Meaning | None:
    """Return the meaning of outputs that are neither probabilities nor trained as values."""
    loss, several = head.loss, head.outputs > 1
    if loss is not None and loss.kind == "binary" and loss.from_logits:
        return "labels" if several else "binary"
    if not several:
        return None
    if head.classifies or (loss is not None and loss.kind == "categorical" and loss.from_logits):
        return "classes"
    if (loss is not None and loss.kind == "embedding") or (loss is None and head.inner and head.end.features):
        return "embedding"
    return None


def _constant_softmax(head: Head, answers: Answers) -> str | None:
    """Return a warning about a softmax that says nothing."""
    if answers.scores != "softmax" or head.outputs > 1:
        return None
    return (
        f"{head.where} ends in the softmax of a single output, which is always 1: every picture gets the same answer. "
        "A yes or no ends in a sigmoid"
    )


def _contradiction(head: Head, meaning: Meaning) -> str | None:
    """Return a warning about a loss that does not fit the model's end."""
    function, loss = head.end.function, head.loss
    if loss is None or function == "none":
        return None
    ends = f"{head.where} ends in {head.end.what}, but was trained with {loss.name}"
    if loss.kind == "values":
        other = "values" if meaning == "classes" else usual_meaning(_SCORES[function], head.outputs)
        return (
            f"{ends}, a loss of regressions; its outputs are taken for {meaning}. If they are {other}, say {OPTION} "
            f"{other}"
        )
    if loss.from_logits:
        return (
            f"{ends}(from_logits=True), which is for outputs without {head.end.what}; its outputs are taken for "
            "probabilities"
        )
    return None


def _check_possible(head: Head, requested: Meaning) -> None:
    """Refuse a meaning that a model with this end cannot have."""
    one, softmax = head.outputs == 1, head.end.function in ("softmax", "log_softmax")
    why = ""
    if softmax and requested in ("labels", "binary"):
        why = f"the probabilities of its softmax add up to 1, so they are {OPTION} classes, also if there are two"
    elif softmax and requested == "embedding":
        why = "a softmax holds probabilities, no features; cut the network before it with --output-layer LAYER"
    elif requested == "binary" and not one:
        why = f"binary is one output; several are {OPTION} classes (one of them) or labels (each by itself)"
    elif requested == "classes" and one and not softmax:
        why = f"a choice needs two classes; one output is {OPTION} binary (yes or no) or values (a number)"
    elif requested == "embedding" and one:
        why = f"an embedding is a vector; one output is {OPTION} binary (yes or no) or values (a number)"
    if why:
        raise UsageError(
            f"{OPTION} {requested} is not possible: {head.where} ends in {head.end.what} ({head.end.layer!r}) with "
            f"{head.outputs} output{'' if one else 's'}; {why}"
        )


def _question(head: Head) -> str:
    """Return the message that asks for the meaning, with the meanings that are possible."""
    possible: list[Meaning] = (
        ["binary", "values"] if head.outputs == 1 else ["classes", "labels", "values", "embedding"]
    )
    if head.end.features:
        possible.sort(key=lambda meaning: meaning != "embedding")
    choices = ", ".join(_EXPLAINED[meaning] for meaning in possible[:-1])
    count = "its output means" if head.outputs == 1 else f"its {head.outputs} outputs mean"
    return (
        f"{head.where} ends in {head.end.what} ({head.end.layer!r}), and {_why_unknown(head.loss)}. Say what {count} "
        f"with {OPTION}: {choices} or {_EXPLAINED[possible[-1]]}"
    )


def _why_unknown(loss: Loss | None) -> str:
    if loss is None:
        return "no compiled loss says what it was trained for"
    if loss.kind in ("categorical", "binary") and not loss.from_logits:
        return f"its loss {loss.name} is for probabilities (from_logits is False), which these are not"
    return f"its loss {loss.name!r} does not say what it was trained for"
