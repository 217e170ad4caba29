"""The sections on how good the files are: the figures at the top, the table, the plot, the recipes that were tried."""

from __future__ import annotations

from typing import Any

from mbn_deploy.manifest import ModelFile
from mbn_deploy.report.data import Report
from mbn_deploy.report.examples import preferred
from mbn_deploy.report.html import Html, joined, tag
from mbn_deploy.report.parts import (
    code,
    estimate,
    interval,
    number,
    percent,
    points,
    section,
    size,
    table,
    three_digits,
)
from mbn_deploy.report.plots import Mark, accuracy_plot
from mbn_deploy.verify.guard import RecipeResult
from mbn_deploy.verify.latency import Latency

KINDS = {"tflite": "TFLite", "onnx": "ONNX"}


def title(entry: ModelFile) -> str:
    """A file in few words."""
    return f"{entry.precision} {KINDS[entry.format]}"


def headline(report: Report) -> Html | None:
    """The file that most will take beside float32: accuracy, agreement, size, time."""
    files = report.manifest.files
    name = preferred({entry.path: entry.precision for entry in files})
    if name is None:
        return None
    entry = next(e for e in files if e.path == name)
    full = next((e for e in files if e.format == entry.format and e.precision == "float32"), entry)
    tiles = [*_accuracy_tiles(report, name), _tile("size", size(entry.size), _share(entry.size, full.size, full))]
    if name in report.latencies:
        mine = report.latencies[name].low
        other = report.latencies.get(full.path)
        beside = f"one thread; float32 {milliseconds(other.low)}" if other and full is not entry else "one thread"
        tiles.append(_tile("latency here", milliseconds(mine), beside))
    return joined([tag("p", "The ", tag("strong", title(entry)), " file:"), tag("dl", *tiles, class_="tiles")])


def _tile(name: str, value: str, beside: str) -> Html:
    return tag(
        "div", tag("dt", name), tag("dd", tag("span", value, class_="big"), tag("span", beside, class_="beside"))
    )


def _share(mine: int, full: int, entry: ModelFile) -> str:
    return f"float32 {size(entry.size)}" if mine != full else "one file"


def _accuracy_tiles(report: Report, name: str) -> list[Html]:
    metrics = report.manifest.metrics
    measured = metrics.get("files", {}).get(name)
    if measured is None:
        return []
    tiles = []
    if metrics["labelled"]:
        beside = f"Keras {number(100 * metrics['reference']['top1']['value'], 1)} %"
        tiles.append(_tile("top-1", f"{number(100 * measured['top1']['value'], 1)} %", beside))
    agreement = number(100 * measured["agreement"]["value"], 1)
    return [*tiles, _tile("answers as Keras", f"{agreement} %", f"on {metrics['images']} pictures")]


def milliseconds(value: float) -> str:
    """`3.42 ms`."""
    return f"{three_digits(value)} ms"


def files(report: Report) -> Html:
    """Every file: size, accuracy with intervals, latency."""
    metrics = report.manifest.metrics
    labelled = bool(metrics.get("labelled"))
    columns = ["file", "size"]
    if metrics:
        columns += ["top-1, %", "top-5, %", "top-1 beside Keras, points"] if labelled else []
        columns += ["answers as Keras, %"]
    if report.latencies:
        columns.append("latency, ms")
    rows = [_row(report, entry, labelled=labelled) for entry in report.manifest.files]
    if labelled:
        rows.insert(0, _reference_row(metrics, latency=bool(report.latencies)))
    return section(
        "files",
        "Files",
        table("files-table", "Size, accuracy and latency of every file", columns, rows),
        tag("p", _measured(report), class_="fine"),
    )


def _row(report: Report, entry: ModelFile, *, labelled: bool) -> list[object]:
    row: list[object] = [joined([tag("span", title(entry), class_="strong"), tag("br"), code(entry.path)])]
    row.append(size(entry.size))
    measured = report.manifest.metrics.get("files", {}).get(entry.path)
    if measured is not None:
        row += _shares(measured, labelled=labelled)
    if report.latencies:
        row.append(_times(report.latencies.get(entry.path)))
    return row


def _shares(measured: dict[str, Any], *, labelled: bool) -> list[object]:
    found = {key: estimate(measured.get(key)) for key in ("top1", "top5", "top1_difference", "agreement")}
    cells: list[object] = []
    if labelled:
        cells += [_or_dash(percent(e) if (e := found[key]) else None) for key in ("top1", "top5")]
        cells.append(_or_dash(points(e) if (e := found["top1_difference"]) else None))
    return [*cells, _or_dash(percent(e) if (e := found["agreement"]) else None)]


def _or_dash(cell: Html | None) -> Html:
    return tag("span", "–") if cell is None else cell


def _times(latency: Latency | None) -> Html:
    if latency is None:
        return _or_dash(None)
    return joined(
        [
            tag("span", three_digits(latency.low), class_="figure"),
            " ",
            tag("span", f"to {three_digits(latency.high)}", class_="bounds"),
        ]
    )


def _reference_row(metrics: dict[str, Any], *, latency: bool) -> list[object]:
    top = [estimate(metrics["reference"][key]) for key in ("top1", "top5")]
    cells = [_or_dash(percent(e) if e else None) for e in top]
    dashes = [_or_dash(None)] * (3 if latency else 2)
    return [tag("span", "Keras, the float model", class_="strong"), _or_dash(None), *cells, *dashes]


def _measured(report: Report) -> str:
    metrics = report.manifest.metrics
    said = []
    if metrics:
        kind = "labelled pictures" if metrics["labelled"] else "pictures without labels"
        said.append(
            f"Accuracy on {metrics['images']} {kind} of {metrics['dataset']!r}; behind each figure its 95 % interval "
            "(Wilson's; of differences Newcombe's for paired data)."
        )
    else:
        said.append("Accuracy was not measured: there were no pictures to evaluate on.")
    if report.latencies:
        said.append(
            "Latency of one run on one thread: files took turns, and the medians of the quietest and of the busiest "
            f"turn are given. On {report.machine}, right after the export: a first impression of this machine, not of "
            "a phone or a board. There, mbn-deploy benchmark measures."
        )
    return " ".join(said)


def tradeoff(report: Report) -> Html | None:
    """Accuracy against latency, or how often the answer is Keras' where nobody knows the right one."""
    metrics = report.manifest.metrics
    measured = metrics.get("files", {})
    labelled = bool(metrics.get("labelled"))
    key, measure = ("top1", "Top-1") if labelled else ("agreement", "Answers as Keras")
    marks = [
        Mark(title(entry), entry.format, report.latencies[entry.path], share)
        for entry in report.manifest.files
        if entry.path in report.latencies and (share := estimate(measured.get(entry.path, {}).get(key))) is not None
    ]
    if not marks:
        return None
    reference = 100 * metrics["reference"]["top1"]["value"] if labelled else None
    said = "; ".join(
        f"{m.name} {number(100 * m.share.value, 1)} % at {milliseconds(m.latency.low)}"
        for m in sorted(marks, key=lambda m: m.latency.low)
    )
    caption = (
        "Up and to the left is better. Circles are TFLite files, squares ONNX; lines are 95 % intervals. The figures "
        "are in the table above."
    )
    plot = accuracy_plot(marks, reference, measure, said)
    return section(
        "tradeoff", f"{measure} against latency", tag("figure", plot, tag("figcaption", caption)),
    )  # fmt: skip


def rungs(report: Report) -> Html | None:
    """The recipes that the accuracy guard tried."""
    if not report.rungs:
        return None
    budget = report.max_drop
    unit = "percentage point" if budget == 1 else "percentage points"
    allowed = "" if budget is None else f" The budget: {budget:g} {unit} of top-1."
    columns = ["recipe", "precision", "drop, points", "answers as Keras, %", "size", "latency, ms", "verdict"]
    rows = [_rung(rung) for rung in report.rungs]
    return section(
        "rungs",
        "Recipes tried",
        tag("p", f"The accuracy guard tries them in this order and takes the first that keeps to the budget.{allowed}"),
        table("rungs-table", "Every recipe that was tried, on the same pictures", columns, rows),
    )


def _rung(rung: RecipeResult) -> list[object]:
    verdict = rung.verdict
    drop = verdict.drop
    outcome = "kept" if rung.holds else "lost too much"
    return [
        code(rung.recipe),
        rung.precision,
        _or_dash(None if drop is None else interval(*(number(100 * v, 2) for v in (drop.value, drop.low, drop.high)))),
        percent(verdict.agreement),
        size(rung.size),
        three_digits(rung.latency_ms),
        outcome if verdict.decided else f"{outcome}; too few pictures to be sure",
    ]
