"""Labels files: line i is the label of class i."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.answers import Answers, Meaning
from mbn_deploy.errors import InputError

_OUTPUTS: dict[Meaning, str] = {"classes": "classes", "labels": "labels", "values": "values", "embedding": "features"}


def parse_labels(data: bytes, where: str) -> tuple[str, ...]:
    """Read UTF-8 text with one label a line; empty lines at the end are ignored.

    Raises `InputError` that names `where`.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: labels must be UTF-8 text: {error}") from None
    # str.splitlines() would also split at characters that may be part of a label.
    labels = [line.rstrip("\r") for line in text.split("\n")]
    while labels and not labels[-1].strip():
        labels.pop()
    if not labels:
        raise InputError(f"{where}: it has no labels")
    return tuple(labels)


def mismatch(labels: Sequence[str], answers: Answers, outputs: int, where: str) -> str | None:
    """Return what is wrong if the number of labels does not fit the outputs, with the likely reason; else None."""
    count, classes = len(labels), outputs
    if count in answers.label_counts(outputs):
        return None
    if answers.meaning == "binary":
        return (
            f"{where}: {count} labels for a model with one output; give two: the negative name, then the positive one"
        )
    text = f"{where}: {count} labels for a model with {classes} {_OUTPUTS[answers.meaning]}"
    if count == classes - 1:
        return text + "; such models often have a 'background' class first: add a line for it at the top of the labels"
    if count == classes + 1:
        return text + "; the first label may be a 'background' class that this model does not have: remove that line"
    return text
