"""Labels: line i is class i."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.errors import InputError


def parse_labels(data: bytes, where: str) -> tuple[str, ...]:
    """UTF-8 text, one label a line; empty lines at the end do not count. Raises `InputError` naming `where`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: labels must be UTF-8 text: {error}") from None
    # Not splitlines(): it also splits at characters that may stand inside a label.
    labels = [line.rstrip("\r") for line in text.split("\n")]
    while labels and not labels[-1].strip():
        labels.pop()
    if not labels:
        raise InputError(f"{where}: no labels in it")
    return tuple(labels)


def mismatch(labels: Sequence[str], classes: int, where: str) -> str | None:
    """What is wrong if the labels are not as many as the classes, with the likely reason; else None."""
    count = len(labels)
    if count == classes:
        return None
    text = f"{where}: {count} labels for a model with {classes} classes"
    if count == classes - 1:
        return text + "; such models often have a 'background' class first: put a line for it on top of the labels"
    if count == classes + 1:
        return text + "; the first label may be a 'background' class that this model lacks: remove that line"
    return text
