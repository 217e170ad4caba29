"""Names of classes, in the forms in which they are given: a text file, a sequence, or a dictionary."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.labels import mismatch, parse_labels
from mbn_deploy.runtime.system.files import read_file

Lines = str | Path | Sequence[str]  # a text file, or its lines
Labels = Lines | Mapping[int, str] | Mapping[str, int]


def read_lines(lines: Lines) -> tuple[str, ...]:
    """Return the lines of a text file, or the given lines. Raises `InputError` for a file that cannot be read."""
    if isinstance(lines, (str, Path)):
        return parse_labels(read_file(Path(lines)), str(lines))
    return tuple(str(line) for line in lines)


def read_synsets(lines: Lines | None) -> list[str] | None:
    """Return the first word of each line: files that list synsets often have their meaning behind it."""
    return None if lines is None else [line.split()[0] for line in read_lines(lines) if line.strip()]


def labels_in_order(labels: Labels) -> Lines:
    """Return the labels as lines, sorted by class, if they are given as a dictionary; other forms stay as they are.

    Raises:
        InputError: names the class that has no label or two, or an entry that is not a class index and a label.
    """
    if not isinstance(labels, Mapping):
        return labels
    by_class: dict[int, str] = {}
    for index, label in _indices_and_labels(labels):
        if index in by_class:
            raise InputError(f"labels: class {index} has two labels, {by_class[index]!r} and {label!r}")
        by_class[index] = label
    missing = next((index for index in range(len(by_class)) if index not in by_class), None)
    if missing is not None:
        raise InputError(f"labels: class {missing} has no label")
    return tuple(by_class[index] for index in range(len(by_class)))


def read_labels(labels: Labels | None, classes: int) -> tuple[str, ...] | None:
    """Return the labels of a model with `classes` classes. Raises `InputError` if there are more or fewer of them."""
    if labels is None:
        return None
    lines = read_lines(labels_in_order(labels))
    problem = mismatch(lines, classes, str(labels) if isinstance(labels, (str, Path)) else "labels")
    if problem is not None:
        raise InputError(problem)
    return lines


def _indices_and_labels(labels: Mapping[int, str] | Mapping[str, int]) -> Iterable[tuple[int, str]]:
    """Yield (class index, label), whichever of the two is the key."""
    for key, value in labels.items():
        if isinstance(value, str) == isinstance(key, str):
            raise InputError(f"labels: {key!r}: {value!r} is not a class index and a label")
        index, label = (value, key) if isinstance(key, str) else (key, value)
        try:
            yield operator.index(index), str(label)  # type: ignore[arg-type] # whatever else it may be, too
        except TypeError:
            raise InputError(f"labels: the class of {label!r} is {index!r}, which is not a whole number") from None
