"""The section on single classes, labels or values: how good each is, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbn_deploy.answers import Meaning
from mbn_deploy.report.data import Report
from mbn_deploy.report.examples import preferred
from mbn_deploy.report.figures import Cell, measured
from mbn_deploy.report.results import TableRow, file_title
from mbn_deploy.verify.measures.measure import METRICS, PART_METRICS
from mbn_deploy.verify.record import MATRIX

MOST_ROWS = 20  # classes and confusions that are shown; of more the worst
TITLES: dict[Meaning, tuple[str, str]] = {
    "classes": ("Class by class", "class"),
    "binary": ("Both kinds of error", "images of"),
    "labels": ("Label by label", "label"),
    "values": ("Value by value", "value"),
    "embedding": ("Class by class", "class"),
}
KNOWN = {**PART_METRICS, **METRICS}
COMPARED = ("agreement", "mean_distance", "largest_distance")  # these say themselves that they are relative to Keras


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the confusion matrix: images, how dark it is drawn (0 to 4), and whether the answer is right."""

    images: int
    shade: int
    right: bool


@dataclass(frozen=True)
class Matrix:
    """Images by class (rows) and answer (columns), in the order of `names`."""

    names: list[str]
    rows: list[list[MatrixCell]]


@dataclass(frozen=True)
class Parts:
    """The section.

    Attributes:
        title: its heading.
        file: title of the file that stands beside Keras.
        columns: headings of the table of classes, labels or values.
        rows: its rows.
        of: number of all, of which the worst are shown.
        matrix: the confusion matrix of the file, where it is small enough to be read.
        confusions: else the most frequent confusions, with their numbers for Keras and the file.
    """

    title: str
    file: str
    columns: list[str]
    rows: list[TableRow]
    of: int
    matrix: Matrix | None
    confusions: list[TableRow]


def parts_section(report: Report) -> Parts | None:
    """Return the section on the preferred file; None without parts, as where images have no labels."""
    manifest = report.manifest
    name = preferred({entry.path: entry.precision for entry in manifest.files})
    of_file = manifest.metrics.get("files", {}).get(name, {})
    parts: list[dict[str, Any]] = of_file.get("parts", [])
    if not parts or name is None:
        return None
    reference = manifest.metrics.get("reference", {})
    meaning = manifest.answers.meaning
    title, noun = TITLES[meaning]
    file = file_title(next(entry for entry in manifest.files if entry.path == name))
    keys = [key for key in KNOWN if any(key in part for part in parts)]
    beside = {part["name"]: part for part in reference.get("parts", [])}
    ordered = _worst_first(parts, keys[0]) if len(parts) > MATRIX else parts
    matrix = _matrix(parts, of_file.get("confusions", [])) if meaning in ("classes", "binary") else None
    return Parts(
        title=title,
        file=file,
        columns=[noun, "images", *_columns(keys, file, with_keras=bool(beside))],
        rows=[_row(part, keys, beside) for part in ordered[:MOST_ROWS]],
        of=len(parts) if meaning == "embedding" else max(manifest.classes, len(parts)),
        matrix=matrix,
        confusions=[] if matrix is not None else _confusions(of_file, reference),
    )


def _columns(keys: Sequence[str], file: str, *, with_keras: bool) -> list[str]:
    columns = []
    for number, key in enumerate(keys):
        title = KNOWN[key].title + (", %" if KNOWN[key].unit == "share" else "")
        if number == 0 and with_keras:
            columns.append(f"Keras: {title}")
        columns.append(title if key in COMPARED else f"{file}: {title}")
    return columns


def _row(part: Mapping[str, Any], keys: Sequence[str], beside: Mapping[str, Mapping[str, Any]]) -> TableRow:
    cells: list[Cell] = [str(part["images"])]
    for number, key in enumerate(keys):
        if number == 0 and beside:
            cells.append(measured(KNOWN[key], beside.get(part["name"], {}).get(key)))
        cells.append(measured(KNOWN[key], part.get(key)))
    return TableRow(title=part["name"], cells=cells)


def _worst_first(parts: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    known = [part for part in parts if part.get(key) is not None]
    sign = -1.0 if KNOWN[key].lower_is_better else 1.0
    return sorted(known, key=lambda part: (sign * part[key], -part["images"]))


def _matrix(parts: Sequence[Mapping[str, Any]], confusions: Sequence[Mapping[str, Any]]) -> Matrix | None:
    """Return the confusion matrix of up to `MATRIX` classes; an answer may be a class without images."""
    answers = [str(each["answer"]) for each in confusions]
    names = list(dict.fromkeys([*(str(part["name"]) for part in parts), *answers]))
    if len(names) > MATRIX:
        return None
    of_class = {part["name"]: part["images"] for part in parts}
    wrong = {(each["truth"], each["answer"]): each["images"] for each in confusions}
    rows = []
    for truth, images in of_class.items():
        right = images - sum(count for (of, _), count in wrong.items() if of == truth)
        counts = [right if answer == truth else wrong.get((truth, answer), 0) for answer in names]
        rows.append([_matrix_cell(n, images, right=a == truth) for n, a in zip(counts, names, strict=True)])
    return Matrix(names, rows)


def _matrix_cell(images: int, of_class: int, *, right: bool) -> MatrixCell:
    share = images / max(of_class, 1)
    shade = 0 if not images else 1 + sum(share > limit for limit in (0.05, 0.2, 0.5))
    return MatrixCell(images, shade, right)


def _confusions(of_file: Mapping[str, Any], reference: Mapping[str, Any]) -> list[TableRow]:
    keras = {(each["truth"], each["answer"]): each["images"] for each in reference.get("confusions", [])}
    return [
        TableRow(
            title=each["truth"],
            cells=[each["answer"], str(keras.get((each["truth"], each["answer"]), "")) or None, str(each["images"])],
        )
        for each in of_file.get("confusions", [])[:MOST_ROWS]
    ]
