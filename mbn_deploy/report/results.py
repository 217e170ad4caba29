"""The sections on how good the files are: figures at the top, the table of files, the plot, the recipes tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbn_deploy.answers import Meaning
from mbn_deploy.manifest import ModelFile
from mbn_deploy.report.data import Report
from mbn_deploy.report.examples import preferred
from mbn_deploy.report.figures import (
    Cell,
    Figure,
    change,
    estimate_of,
    file_size,
    measured,
    milliseconds,
    number,
    percent,
    points,
    three_digits,
)
from mbn_deploy.report.plots import Mark, accuracy_plot
from mbn_deploy.report.svg import Svg
from mbn_deploy.verify.guard import WORDINGS, RecipeResult
from mbn_deploy.verify.latency import Latency
from mbn_deploy.verify.measures.measure import METRICS, Metric, shown_metrics
from mbn_deploy.verify.statistics import negative

_SHARES = "Wilson's; of differences Newcombe's for paired data"
INTERVALS: dict[Meaning, str] = {
    "classes": _SHARES,
    "binary": f"{_SHARES}; of the area under ROC the delete-a-group jackknife's",
    "labels": "the delete-a-group jackknife's; of images with all labels right, and of agreement, Wilson's",
    "values": "Student's for a mean",
    "embedding": _SHARES,
}
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
    of_file = metrics.get("files", {}).get(name)
    if of_file is None:
        return []
    tiles, key = [], main_key(metrics)
    if metrics["labelled"]:
        metric = METRICS[key]
        beside = f"Keras {_text(metric, metrics['reference'][key])}"
        tiles.append(Tile(metric.title, _text(metric, of_file[key]), beside))
    on_images = f"on {metrics['images']} images"
    for other in ("agreement", "mean_distance", "cosine"):
        if of_file.get(other) is not None:
            return [*tiles, Tile(METRICS[other].title, _text(METRICS[other], of_file[other]), on_images)]
    return tiles


def main_key(metrics: Mapping[str, Any]) -> str:
    """Return the key of the figure that counts; metrics of earlier exports are of classes."""
    return str(metrics.get("measure", "top1" if metrics["labelled"] else "agreement"))


def _text(metric: Metric, value: Mapping[str, Any] | float) -> str:
    """Write a figure without its interval."""
    cell = measured(metric, value)
    text = cell.value if isinstance(cell, Figure) else str(cell)
    return f"{text} %" if metric.unit == "share" else text


def file_table(report: Report) -> FileTable:
    """Return the table of all files, with the Keras model on top if accuracy was measured."""
    metrics = report.manifest.metrics
    labelled = bool(metrics.get("labelled"))
    of_files, reference = list(metrics.get("files", {}).values()), metrics.get("reference", {})
    keys = shown_metrics([*of_files, reference])
    absolute = [key for key in keys if key in reference]
    compared = [key for key in keys if key not in reference]
    columns = ["file", "size", *map(_column, absolute)]
    if labelled:
        main = METRICS[main_key(metrics)]
        columns.append(f"{main.title} minus Keras{', points' if main.unit == 'share' else ''}")
    columns += map(_column, compared)
    if report.latencies:
        columns.append("latency, ms")
    rows = [_file_row(report, entry, absolute, compared) for entry in report.manifest.files]
    if labelled:
        shares = [measured(METRICS[key], reference[key]) for key in absolute]
        cells: list[Cell] = [None, *shares, *[None] * (len(columns) - 2 - len(shares))]
        rows.insert(0, TableRow(title="Keras, the float model", cells=cells))
    return FileTable(columns, rows)


def _column(key: str) -> str:
    metric = METRICS[key]
    return f"{metric.title}, %" if metric.unit == "share" else metric.title


def _file_row(report: Report, entry: ModelFile, absolute: Sequence[str], compared: Sequence[str]) -> TableRow:
    metrics = report.manifest.metrics
    cells: list[Cell] = [file_size(entry.size)]
    of_file = metrics.get("files", {}).get(entry.path, {})
    cells += [measured(METRICS[key], of_file.get(key)) for key in absolute]
    if metrics.get("labelled"):
        main = main_key(metrics)
        difference = estimate_of(of_file.get(f"{main}_difference"))
        cells.append(change(METRICS[main], difference) if difference else None)
    cells += [measured(METRICS[key], of_file.get(key)) for key in compared]
    if report.latencies:
        cells.append(_latency(report.latencies.get(entry.path)))
    return TableRow(title=file_title(entry), name=entry.path, cells=cells)


def _latency(latency: Latency | None) -> Figure | None:
    return None if latency is None else Figure(three_digits(latency.low), f"to {three_digits(latency.high)}")


def accuracy_latency(report: Report) -> AccuracyLatency | None:
    """Plot the figure that counts against latency; None if either is missing, or if the figure is no share."""
    metrics = report.manifest.metrics
    key = main_key(metrics) if metrics else "top1"
    metric = METRICS[key]
    if metric.unit != "share":
        return None
    marks = [
        Mark(file_title(entry), entry.format, report.latencies[entry.path], share)
        for entry in report.manifest.files
        if entry.path in report.latencies
        and (share := estimate_of(metrics.get("files", {}).get(entry.path, {}).get(key))) is not None
    ]
    if not marks:
        return None
    reference = 100 * metrics["reference"][key]["value"] if metrics["labelled"] else None
    description = "; ".join(
        f"{m.name} {number(100 * m.share.value, 1)} % at {milliseconds(m.latency.low)}"
        for m in sorted(marks, key=lambda m: m.latency.low)
    )
    measure = metric.title[0].upper() + metric.title[1:]
    return AccuracyLatency(measure, accuracy_plot(marks, reference, measure, description))


def guarded(report: Report) -> str:
    """Return what the accuracy guard limits, with its unit."""
    points = WORDINGS[report.manifest.answers.meaning].points
    return f"percentage {points}" if points.startswith("points") else points


def recipe_rows(results: Sequence[RecipeResult]) -> list[TableRow]:
    """Return a row for each recipe that the accuracy guard tried."""
    return [_recipe_row(result) for result in results]


def _recipe_row(result: RecipeResult) -> TableRow:
    verdict = result.verdict
    outcome = "within the limit" if result.holds else "loses too much"
    drop = verdict.drop
    cells: list[Cell] = [
        result.precision,
        None if drop is None else points(negative(drop), 2),
        None if verdict.agreement is None else percent(verdict.agreement),
        file_size(result.size),
        three_digits(result.latency_ms),
        outcome if verdict.decided else f"{outcome}; too few images to be sure",
    ]
    return TableRow(name=result.recipe, cells=cells)
