"""Sub-folders that say what their images are, by label, synset or class index."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError
from mbn_deploy.text import shorten

Classes = npt.NDArray[np.int64]

BACKGROUND = "background"


class ClassNames:
    """The numbers of classes by their names, as folders and tables write them.

    Raises `InputError` unless there is one label and one synset for each class.

    Attributes:
        count: number of classes; two for a binary model.
        given: whether labels or synsets name the classes.
    """

    def __init__(
        self, answers: Answers, outputs: int, labels: Sequence[str] | None, synsets: Sequence[str] | None = None
    ) -> None:
        self.count = answers.name_count(outputs)
        self.given = labels is not None or synsets is not None
        binary = answers.meaning == "binary"
        names = answers.names(labels, outputs) if labels is not None or binary else None
        self._numbers = _numbers(self.count, names, synsets)
        # Of a binary model with a lone label, the positive one, every other name is negative.
        self._other = 0 if binary and labels is not None and len(labels) == 1 else None

    def number(self, name: str) -> int | None:
        """Return the number of the class called `name`; None if there is none, or if there are several."""
        if name in self._numbers:
            return self._numbers[name]
        if name.isascii() and name.isdigit() and int(name) < self.count:
            return int(name)
        return self._other

    def problem(self, unknown: Sequence[str], what: str) -> str:
        """Say what is wrong with names that are no class; `what` is what they name, as in "2 of 3 sub-folders"."""
        known = self._numbers or {"0": 0, str(self.count - 1): self.count - 1}
        ambiguous = [name for name in unknown if name in self._numbers]
        if ambiguous:
            return f"several classes are called {shorten(map(repr, ambiguous))}; name these {what} by class index"
        near = {name: difflib.get_close_matches(name, known, n=2, cutoff=0.6) for name in unknown}
        shown = shorten(repr(n) + (f" (near: {', '.join(near[n])})" if near[n] else "") for n in unknown)
        return f"{what} are not named like any of the {self.count} classes: {shown}"


def _numbers(count: int, labels: Sequence[str] | None, synsets: Sequence[str] | None) -> dict[str, int | None]:
    """Map names to class numbers; a label that several classes share is mapped to None."""
    if labels is not None and len(labels) != count:
        raise InputError(f"{len(labels)} labels for {count} classes: there must be one for each class, in order")
    numbers: dict[str, int | None] = {}
    for index, label in enumerate(labels or ()):
        numbers[label] = None if label in numbers else index
    background = labels is not None and labels[0] == BACKGROUND
    first = 1 if background and synsets is not None and len(synsets) == count - 1 else 0
    if synsets is not None and len(synsets) + first != count:
        raise InputError(f"{len(synsets)} synsets for {count} classes: there must be one for each class, in order")
    return numbers | {name: index for index, name in enumerate(synsets or (), first)}


def folder_classes(root: Path, paths: Sequence[Path], names: ClassNames) -> Classes:
    """Return the class of each image, (N,), by its sub-folder of `root`.

    Raises:
        InputError: names sub-folders that are not a class, with similar names.
    """
    folders = folder_names(root, paths)
    numbers = {name: names.number(name) for name in dict.fromkeys(folders)}
    unknown = sorted(name for name, number in numbers.items() if number is None)
    if unknown:
        hint = "" if names.given else _labels_hint(root, len(numbers), names.count)
        raise InputError(f"{root}: {names.problem(unknown, f'{len(unknown)} of {len(numbers)} sub-folders')}{hint}")
    return np.array([numbers[name] for name in folders], np.int64)


def folder_names(root: Path, paths: Sequence[Path]) -> list[str]:
    """Return the name of the sub-folder of `root` that each image lies in."""
    return [path.relative_to(root).parts[0] for path in paths]


def same_pictures(paths: Sequence[Path]) -> Mapping[tuple[int, int], list[int]]:
    """Return the numbers of the paths that are one file, by links, under what identifies the file."""
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, path in enumerate(paths):
        status = path.stat()
        numbers.setdefault((status.st_dev, status.st_ino), []).append(number)
    return numbers


def _labels_hint(root: Path, folders: int, classes: int) -> str:
    """Say how sub-folders become classes if nothing names the classes."""
    if folders == classes:
        return f"; to take the sub-folders as classes in alphabetical order, as Keras does, give --labels {root}"
    return "; without --labels or --synsets the names must be class indices"
