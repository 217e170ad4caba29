"""Labels and synsets of an export, in the forms in which they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.label_files import Labels
from mbn_deploy.runtime.label_files import read_labels as read_any
from mbn_deploy.runtime.labels import mismatch, parse_labels
from mbn_deploy.runtime.system.files import read_file

Lines = str | Path | Sequence[str]  # a text file, or its lines


def read_lines(lines: Lines) -> tuple[str, ...]:
    """Return the lines of a text file, or the given lines. Raises `InputError` for a file that cannot be read."""
    if isinstance(lines, (str, Path)):
        return parse_labels(read_file(Path(lines)), str(lines))
    return tuple(str(line) for line in lines)


def read_synsets(lines: Lines | None) -> list[str] | None:
    """Return the first word of each line: files that list synsets often have their meaning behind it."""
    return None if lines is None else [line.split()[0] for line in read_lines(lines) if line.strip()]


def read_labels(labels: Labels | None, answers: Answers, outputs: int) -> tuple[str, ...] | None:
    """Return the labels of a model with so many outputs.

    Raises:
        InputError: there are more or fewer of them.
        UsageError: the model answers with an embedding, whose features have no names.
    """
    if labels is None:
        return None
    if answers.meaning == "embedding":
        raise UsageError("--labels: the features of an embedding have no names; leave the labels out")
    names = read_any(labels)
    problem = mismatch(names, answers, outputs, str(labels) if isinstance(labels, (str, Path)) else "labels")
    if problem is not None:
        raise InputError(problem)
    return names
