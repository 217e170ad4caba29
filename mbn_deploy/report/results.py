"""The sections on how good the files are: figures at the top, the table of files, the plot, the recipes tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mbn_deploy.manifest import ModelFile
from mbn_deploy.report.data import Report
from mbn_deploy.report.examples import preferred
from mbn_deploy.report.figures import (
    Cell,
    Figure,
    estimate_of,
    file_size,
    milliseconds,
    number,
    percent,
    points,
    three_digits,
)
from mbn_deploy.report.plots import Mark, accuracy_plot
from mbn_deploy.report.svg import Svg
from mbn_deploy.verify.guard import RecipeResult
from mbn_deploy.verify.latency import Latency
from mbn_deploy.verify.statistics import Estimate

FORMATS = {"tflite": "TFLite", "onnx": "ONNX"}


@dataclass(frozen=True)
class Tile:
    """A figure at the top of the page: its name, its value, and what to compare it with ("" if nothing)."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True)
class Headline:
    """The figures of the file that most users will take beside float32."""

    title: str
    tiles: list[Tile]


@dataclass(frozen=True)
class TableRow:
    """A row of a table: a title in plain words, a name as it is typed, or both, and the other cells."""

    cells: list[Cell]
    title: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class FileTable:
    """Size, accuracy and latency of every file."""

    columns: list[str]
    rows: list[TableRow]


@dataclass(frozen=True)
class AccuracyLatency:
    """The plot of accuracy, or of agreement if there are no labels, against latency."""

    measure: str
    plot: Svg


def file_title(entry: ModelFile) -> str:
    """Return precision and format of a file, as in "int8 TFLite"."""
    return f"{entry.precision} {FORMATS[entry.format]}"


def headline(report: Report) -> Headline | None:
    """Return accuracy, agreement, size and latency of the preferred file."""
    files = report.manifest.files
    name = preferred({entry.path: entry.precision for entry in files})
    if name is None:
        return None
    entry = next(e for e in files if e.path == name)
    full = next((e for e in files if e.format == entry.format and e.precision == "float32"), entry)
    beside = f"float32 {file_size(full.size)}" if entry.size != full.size else ""
    tiles = [*_accuracy_tiles(report, name), Tile("size", file_size(entry.size), beside)]
    if name in report.latencies:
        other = report.latencies.get(full.path)
        beside = f"one thread; float32 {milliseconds(other.low)}" if other and full is not entry else "one thread"
        tiles.append(Tile("latency here", milliseconds(report.latencies[name].low), beside))
    return Headline(file_title(entry), tiles)


def _accuracy_tiles(report: Report, name: str) -> list[Tile]:
    metrics = report.manifest.metrics
    measured = metrics.get("files", {}).get(name)
    if measured is None:
        return []
    tiles = []
    if metrics["labelled"]:
        beside = f"Keras {number(100 * metrics['reference']['top1']['value'], 1)} %"
        tiles.append(Tile("top-1", f"{number(100 * measured['top1']['value'], 1)} %", beside))
    agreement = number(100 * measured["agreement"]["value"], 1)
    return [*tiles, Tile("agreement with Keras", f"{agreement} %", f"on {metrics['images']} images")]


def file_table(report: Report) -> FileTable:
    """Return the table of all files, with the Keras model on top if accuracy was measured."""
    metrics = report.manifest.metrics
    labelled = bool(metrics.get("labelled"))
    columns = ["file", "size"]
    if labelled:
        columns += ["top-1, %", "top-5, %", "top-1 minus Keras, points"]
    if metrics:
        columns.append("agreement with Keras, %")
    if report.latencies:
        columns.append("latency, ms")
    rows = [_file_row(report, entry, labelled=labelled) for entry in report.manifest.files]
    if labelled:
        shares = [_share(metrics["reference"], key) for key in ("top1", "top5")]
        cells: list[Cell] = [None, *shares, *[None] * (len(columns) - 4)]
        rows.insert(0, TableRow(title="Keras, the float model", cells=cells))
    return FileTable(columns, rows)


def _file_row(report: Report, entry: ModelFile, *, labelled: bool) -> TableRow:
    cells: list[Cell] = [file_size(entry.size)]
    measured = report.manifest.metrics.get("files", {}).get(entry.path)
    if measured is not None and labelled:
        difference = estimate_of(measured.get("top1_difference"))
        cells += [_share(measured, "top1"), _share(measured, "top5"), points(difference) if difference else None]
    if measured is not None:
        cells.append(_share(measured, "agreement"))
    if report.latencies:
        cells.append(_latency(report.latencies.get(entry.path)))
    return TableRow(title=file_title(entry), name=entry.path, cells=cells)


def _share(measured: dict[str, Any], key: str) -> Figure | None:
    estimate = estimate_of(measured.get(key))
    return None if estimate is None else percent(estimate)


def _latency(latency: Latency | None) -> Figure | None:
    return None if latency is None else Figure(three_digits(latency.low), f"to {three_digits(latency.high)}")


def accuracy_latency(report: Report) -> AccuracyLatency | None:
    """Plot accuracy against latency, or agreement with Keras if there are no labels; None if either is missing."""
    metrics = report.manifest.metrics
    measured = metrics.get("files", {})
    labelled = bool(metrics.get("labelled"))
    key, measure = ("top1", "Top-1") if labelled else ("agreement", "Agreement with Keras")
    marks = [
        Mark(file_title(entry), entry.format, report.latencies[entry.path], share)
        for entry in report.manifest.files
        if entry.path in report.latencies and (share := estimate_of(measured.get(entry.path, {}).get(key))) is not None
    ]
    if not marks:
        return None
    reference = 100 * metrics["reference"]["top1"]["value"] if labelled else None
    description = "; ".join(
        f"{m.name} {number(100 * m.share.value, 1)} % at {milliseconds(m.latency.low)}"
        for m in sorted(marks, key=lambda m: m.latency.low)
    )
    return AccuracyLatency(measure, accuracy_plot(marks, reference, measure, description))


def recipe_rows(results: Sequence[RecipeResult]) -> list[TableRow]:
    """Return a row for each recipe that the accuracy guard tried."""
    return [_recipe_row(result) for result in results]


def _recipe_row(result: RecipeResult) -> TableRow:
    verdict = result.verdict
    outcome = "within the limit" if result.holds else "loses too much"
    drop = verdict.drop
    change = None if drop is None else points(Estimate(-drop.value, -drop.high, -drop.low), 2)
    cells: list[Cell] = [
        result.precision,
        change,
        percent(verdict.agreement),
        file_size(result.size),
        three_digits(result.latency_ms),
        outcome if verdict.decided else f"{outcome}; too few images to be sure",
    ]
    return TableRow(name=result.recipe, cells=cells)
