"""`table.html`: the fronts as plots and all rows, one file without script or link, in the style of the report."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.report.html import Html, joined, tag
from mbn_deploy.report.page import document
from mbn_deploy.report.parts import code, number, section, size, table
from mbn_deploy.sweep.latency import Pass
from mbn_deploy.sweep.plot import Point, front_plot
from mbn_deploy.sweep.table import Row
from mbn_deploy.version import __version__

MEASURES = {"top1": "top-1", "agreement": "agreement with Keras"}
COSTS = (
    ("latency_p50", "latency_front", 1.0, "milliseconds a picture, one thread", "latency"),
    ("bytes", "size_front", 1e6, "megabytes", "size"),
)
EXIT = {
    1: "a bug",
    2: "wrong use",
    3: "an input that cannot be used",
    4: "a missing extra",
    5: "a verification said no",
}


def page(rows: Sequence[Row], timed: Pass | None) -> str:
    """The whole page as HTML 5; equal tables give equal text."""
    files, failures = [r for r in rows if r.file is not None], [r for r in rows if r.error is not None]
    variants = len({r.variant for r in rows})
    lead = tag("p", f"{len(files)} files of {variants} variants; {len(failures)} failures.", class_="strong")
    return document(
        "Sweep",
        tag("header", tag("h1", "Sweep"), lead),
        tag("main", *_fronts(files), _files(files) if files else None, _failures(failures), _notes(timed)),
        tag("footer", tag("p", f"Made by mbn-deploy {__version__}.")),
    )


def _fronts(files: Sequence[Row]) -> list[Html]:
    made = []
    for cost, mark, unit, axis, name in COSTS:
        for score, measure in MEASURES.items():
            shown = [r for r in files if r.score == score and getattr(r, cost) is not None]
            points = [
                Point(
                    _short(r), r.format or "", getattr(r, cost) / unit, 100 * getattr(r, score), bool(getattr(r, mark))
                )
                for r in shown
            ]
            if points:
                best = ", ".join(_short(r) for r in shown if getattr(r, mark))
                plot = front_plot(points, f"{name}-{score}", axis, measure, f"On the front: {best}.")
                title = f"{measure[0].upper()}{measure[1:]} against {name}"
                made.append(section(f"front-{name}-{score}", title, tag("figure", plot, tag("figcaption", _CAPTION))))
    return made


_CAPTION = (
    "Circles are TFLite, squares ONNX; the line joins the files that no other beats in both respects. Differences "
    "within the intervals of the table are not decided by this many pictures."
)


def _short(row: Row) -> str:
    return f"{row.variant} {row.precision}"


def _files(files: Sequence[Row]) -> Html:
    columns = ("file", "size", "ms, p50", "ms, p90", "top-1, %", "top-5, %", "agreement, %", "Keras top-1, %", "front")
    lines = [
        (
            code(r.file), size(r.bytes or 0), _figure(r.latency_p50, 2), _figure(r.latency_p90, 2),
            _share(r.top1, r.top1_low, r.top1_high), _percent(r.top5),
            _share(r.agreement, r.agreement_low, r.agreement_high), _percent(r.keras_top1),
            ", ".join(w for w, on in (("latency", r.latency_front), ("size", r.size_front)) if on) or "–",
        )
        for r in files
    ]  # fmt: skip
    images = sorted({r.images for r in files if r.images is not None})
    measured = f"Measured on {', '.join(map(str, images))} pictures, with 95 % intervals. " if images else ""
    return section("files", "Files", table("files-table", f"{measured}A dash is not measured.", columns, lines))


def _failures(failures: Sequence[Row]) -> Html | None:
    if not failures:
        return None
    items = [
        tag("li", tag("strong", r.variant), f" ({EXIT.get(r.exit_code, r.exit_code)}): {r.error}") for r in failures
    ]
    return section("failures", "What failed", tag("div", tag("ul", *items), class_="note"))


def _notes(timed: Pass | None) -> Html | None:
    if timed is None:
        return None
    how = f"Latency: one pass on {timed.model}, {timed.seconds:g} s a file, when all jobs were done."
    notes = [tag("li", note) for note in timed.notes]
    return section("latency", "Latency", tag("p", how), tag("ul", *notes) if notes else None)


def _figure(value: float | None, digits: int) -> str:
    return "–" if value is None else number(value, digits)


def _percent(value: float | None) -> str:
    return "–" if value is None else number(100 * value, 1)


def _share(value: float | None, low: float | None, high: float | None) -> object:
    if value is None or low is None or high is None:
        return "–"
    bounds = f"{number(100 * low, 1)} to {number(100 * high, 1)}"
    return joined([tag("span", number(100 * value, 1), class_="figure"), " ", tag("span", bounds, class_="bounds")])
