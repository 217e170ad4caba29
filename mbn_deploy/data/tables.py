"""CSV tables of image files with their classes, labels or values.

The first line may be a heading. The image files stand in the column that a heading such as `file` or `image` names,
else in the first one, as paths from the table's folder, or as names of files anywhere below it, with or without their
ending (as Kaggle's tables have them). Beside them stand

- for classes and binary models: one column of labels or class indices;
- for labels: one column of labels, `cat|dog`, where an empty cell means none; or a column for each label with 1 or 0
  (also true and false, yes and no, or 1 and -1);
- for values: a column of numbers for each value.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.arrays import Array
from mbn_deploy.data.class_folders import ClassNames
from mbn_deploy.data.images import find_images
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.images import SUFFIXES
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.text import shorten

FILE_HEADINGS = (
    *("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "image_file", "img"),
    *("image_id", "image_name", "imageid", "picture", "id"),
)
CLASS_HEADINGS = ("label", "class", "class_name", "category", "target", "y", "labels", "tags", "classes")
YES, NO = ("1", "1.0", "true", "yes", "y", "t"), ("0", "0.0", "false", "no", "n", "f", "")
MINUS_ONE = ("-1", "-1.0")


@dataclass(frozen=True, eq=False)
class Table:
    """Image files with what is right for each, see `Dataset`."""

    paths: tuple[Path, ...]
    truth: Array
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The lines of a table: the image files' cells and the others, with the headings of the others if there are any."""

    where: str
    files: list[str]
    cells: list[list[str]]
    headings: list[str] | None
    numbers: list[int]  # of the lines in the file, from 1

    def at(self, row: int) -> str:
        """Say where a row stands."""
        return f"{self.where}, line {self.numbers[row]} ({self.files[row]})"


def read_table(path: Path, answers: Answers, outputs: int, labels: Sequence[str] | None) -> Table:
    """Read a CSV table for a model with so many outputs; `labels` are its names, None if it has none.

    Raises:
        InputError: names the table, and the line or column that does not fit.
    """
    rows = _read(path)
    names = answers.names(labels, outputs)
    if answers.meaning == "values":
        truth, names = _values(rows, outputs, None if labels is None else names)
    elif answers.meaning == "labels":
        truth, names = _labels(rows, names, named=labels is not None)
    elif answers.meaning == "embedding":
        truth, names = _free_classes(rows)
    else:
        truth = _classes(rows, ClassNames(answers, outputs, labels))
    return Table(_image_paths(path, rows), truth, names)


def table_images(path: Path) -> tuple[Path, ...]:
    """Return the image files that a table names. Raises `InputError`."""
    return _image_paths(path, _read(path))


def _read(path: Path) -> _Rows:
    """Read the lines of a table, and find the column of image files."""
    where, data = str(path), read_file(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: a CSV table of image files must be UTF-8 text: {error}") from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    if delimiter not in first:
        raise InputError(
            f"{where}: a CSV table with a column of image files and what is right for them is expected, or a folder; "
            "its first line has only one column"
        )
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    table = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    width = len(table[0][1])
    uneven = next((number for number, row in table if len(row) != width), None)
    if uneven is not None:
        raise InputError(f"{where}, line {uneven}: not as many columns as the first line, which has {width}")
    heading = None if _is_image(table[0][1], path.parent) else [cell.lower() for cell in table[0][1]]
    body = table if heading is None else table[1:]
    if not body:
        raise InputError(f"{where}: it has no lines below its heading")
    at = next((at for name in FILE_HEADINGS for at, cell in enumerate(heading or ()) if cell == name), 0)
    original = None if heading is None else [cell for i, cell in enumerate(table[0][1]) if i != at]
    return _Rows(
        where=where,
        files=[row[at] for _, row in body],
        cells=[[cell for i, cell in enumerate(row) if i != at] for _, row in body],
        headings=original,
        numbers=[number for number, _ in body],
    )


def _is_image(row: Sequence[str], folder: Path) -> bool:
    """Tell whether a line names an image file, and so is no heading."""
    return any(Path(cell).suffix.lower() in SUFFIXES or (folder / cell).is_file() for cell in row if cell)


def _image_paths(table: Path, rows: _Rows) -> tuple[Path, ...]:
    """Find the image file of each line: by its path from the table's folder, else by its name below it."""
    folder = table.parent
    paths = [folder / file if file and (folder / file).is_file() else None for file in rows.files]
    if None not in paths:
        return tuple(path for path in paths if path is not None)
    below: dict[str, list[Path]] = {}
    for image in find_images(folder):
        for name in (image.name, image.stem):
            below.setdefault(name, []).append(image)
    found = []
    for row, (file, path) in enumerate(zip(rows.files, paths, strict=True)):
        candidates = [path] if path is not None else below.get(Path(file.replace("\\", "/")).name, [])
        if len(candidates) != 1:
            problem = "no image of this name" if not candidates else f"{len(candidates)} images of this name"
            raise InputError(f"{rows.at(row)}: {problem} in {folder}, or in the folders below it")
        found.append(candidates[0])
    return tuple(found)


def _one_column(rows: _Rows, what: str) -> list[str]:
    """Return the one column beside the image files, or the one that a heading names."""
    columns = len(rows.cells[0])
    at: int | None = 0 if columns == 1 else None
    if at is None and rows.headings is not None:
        lower = [heading.lower() for heading in rows.headings]
        at = next((lower.index(name) for name in CLASS_HEADINGS if name in lower), None)
    if at is None:
        raise InputError(
            f"{rows.where}: {columns} columns beside the image files; give one of {what}, with the heading 'label'"
        )
    return [row[at] for row in rows.cells]


def _classes(rows: _Rows, names: ClassNames) -> Array:
    column = _one_column(rows, "classes")
    numbers = {name: names.number(name) for name in dict.fromkeys(column)}
    unknown = sorted(name for name, number in numbers.items() if number is None)
    if unknown:
        raise InputError(f"{rows.where}: {names.problem(unknown, f'{len(unknown)} of {len(numbers)} names')}")
    return np.array([numbers[name] for name in column], np.int64)


def _free_classes(rows: _Rows) -> tuple[Array, tuple[str, ...]]:
    column = _one_column(rows, "classes")
    names = tuple(sorted(set(column)))
    return np.array([names.index(name) for name in column], np.int64), names


def _labels(rows: _Rows, names: tuple[str, ...], *, named: bool) -> tuple[Array, tuple[str, ...]]:
    """Read one column of labels, or one column a label."""
    if len(rows.cells[0]) == 1 and len(names) > 1:
        return _listed_labels(rows, _one_column(rows, "labels"), names), names
    columns, found = _columns(rows, len(names), names if named else None, "labels")
    values = {cell.lower() for row in rows.cells for cell in (row[at] for at in columns)}
    no = NO + MINUS_ONE if not values - {*YES, *MINUS_ONE} else NO
    return _converted(rows, columns, lambda cell: _yes_or_no(cell, no), "1 or 0", bool), found


def _yes_or_no(cell: str, no: Sequence[str]) -> bool:
    if cell.lower() in YES:
        return True
    if cell.lower() in no:
        return False
    raise ValueError(cell)


def _listed_labels(rows: _Rows, column: Sequence[str], names: tuple[str, ...]) -> Array:
    """Read cells such as `cat|dog`; commas, semicolons and spaces separate labels, too, where no label has them."""
    numbers = {name: index for index, name in enumerate(names)}
    truth = np.zeros((len(column), len(names)), bool)
    for row, cell in enumerate(column):
        for label in _split(cell, numbers):
            if label not in numbers:
                near = difflib.get_close_matches(label, names, n=2, cutoff=0.6)
                hint = f"; near: {', '.join(near)}" if near else f"; labels are {shorten(names)}"
                raise InputError(f"{rows.at(row)}: {label!r} is not a label of the model{hint}")
            truth[row, numbers[label]] = True
    return truth


def _split(cell: str, known: dict[str, int]) -> list[str]:
    inside = cell.strip().strip("[](){}") if cell not in known else cell
    for separator in ("|", ";", ","):
        if separator in inside:
            return [part.strip().strip("'\"") for part in inside.split(separator) if part.strip()]
    whole = inside.strip().strip("'\"")
    return [whole] if whole in known else whole.split()


def _values(rows: _Rows, outputs: int, names: tuple[str, ...] | None) -> tuple[Array, tuple[str, ...]]:
    columns, found = _columns(rows, outputs, names, "values")

    def number(cell: str) -> float:
        value = float(cell)
        if not math.isfinite(value):
            raise ValueError(cell)
        return value

    return _converted(rows, columns, number, "a number", np.float32), found


def _columns(rows: _Rows, count: int, names: tuple[str, ...] | None, what: str) -> tuple[list[int], tuple[str, ...]]:
    """Return the columns of the model's labels or values in its order, and their names.

    They are found by the model's names where the headings have them all, else there must be as many as outputs.
    """
    headings = rows.headings
    if headings is not None and names is not None and set(names) & set(headings):
        missing = [name for name in names if name not in headings]
        if missing:
            raise InputError(f"{rows.where}: no column for {shorten(map(repr, missing))}; it has {shorten(headings)}")
        return [headings.index(name) for name in names], names
    columns = len(rows.cells[0])
    if columns != count:
        raise InputError(
            f"{rows.where}: {columns} columns beside the image files, and the model has {count} {what}; name the "
            f"columns like them in a heading, and give the model's names with --labels"
        )
    own = tuple(map(str, range(count)))
    return list(range(count)), names or (tuple(headings) if headings is not None else own)


def _converted(
    rows: _Rows, columns: Sequence[int], convert: Callable[[str], float], expected: str, dtype: type
) -> Array:
    """Return the cells of these columns as an array (N, columns); `convert` raises `ValueError` for a wrong cell."""

    def converted(row: int, cell: str) -> float:
        try:
            return convert(cell)
        except ValueError:
            raise InputError(f"{rows.at(row)}: {cell!r} is not {expected}") from None

    return np.array([[converted(row, cells[at]) for at in columns] for row, cells in enumerate(rows.cells)], dtype)
