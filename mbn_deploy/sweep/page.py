"""`table.html`: the Pareto fronts as plots and all rows of the table, one file in the style of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.report.figures import Cell, Figure, file_size, measured, number
from mbn_deploy.report.results import TableRow
from mbn_deploy.report.svg import Svg
from mbn_deploy.report.template import render
from mbn_deploy.sweep.latency import LatencyPass
from mbn_deploy.sweep.plot import Point, front_plot
from mbn_deploy.sweep.table import Row
from mbn_deploy.verify.measures.measure import METRICS

TEMPLATES = Path(__file__).parent / "templates"
EXIT_CODES = {
    1: "a bug",
    2: "wrong use",
    3: "an input that cannot be used",
    4: "a missing extra",
    5: "a verification failed",
}


@dataclass(frozen=True)
class Cost:
    """A cost that scores are plotted against: its column and that of its front in a row, and the axis."""

    column: str
    front: str
    unit: float
    axis: str
    name: str


COSTS = (
    Cost("latency_p50", "latency_front", unit=1.0, axis="milliseconds per inference, one thread", name="latency"),
    Cost("bytes", "size_front", unit=1e6, axis="megabytes", name="size"),
)


@dataclass(frozen=True)
class Front:
    """A plot of one score against one cost."""

    identity: str
    title: str
    plot: Svg


def page(rows: Sequence[Row], timed: LatencyPass | None) -> str:
    """Return the page as HTML 5. Equal tables give equal text."""
    files = [row for row in rows if row.file is not None]
    scores = list(dict.fromkeys(row.score for row in files if row.score not in (None, "agreement")))
    columns = [column for score in scores for column in (_column(score or ""), f"Keras {_column(score or '')}")]
    return render(
        "sweep.html",
        TEMPLATES,
        variants=len({row.variant for row in rows}),
        fronts=list(_fronts(files)),
        files=[_file_row(row, scores) for row in files],
        columns=["file", "size", "ms, p50", "ms, p90", *columns, "agreement, %", "front"],
        images=sorted({row.images for row in files if row.images is not None}),
        failures=[row for row in rows if row.error is not None],
        exit_codes=EXIT_CODES,
        timed=timed,
    )


def _fronts(files: Sequence[Row]) -> Iterator[Front]:
    for cost in COSTS:
        for score in dict.fromkeys(row.score for row in files if row.score is not None):
            measure = METRICS[score].title
            shown = [row for row in files if row.score == score and getattr(row, cost.column) is not None]
            if shown and METRICS[score].unit == "share":
                identity = f"{cost.name}-{score}"
                best = ", ".join(_short_name(row) for row in shown if getattr(row, cost.front))
                points = [_point(row, cost) for row in shown]
                plot = front_plot(points, identity, cost.axis, measure, f"On the front: {best}.")
                yield Front(identity, f"{measure[0].upper()}{measure[1:]} against {cost.name}", plot)


def _point(row: Row, cost: Cost) -> Point:
    return Point(
        name=_short_name(row),
        kind=row.format or "",
        cost=getattr(row, cost.column) / cost.unit,
        percent=100 * (row.value or 0.0),
        front=bool(getattr(row, cost.front)),
    )


def _short_name(row: Row) -> str:
    return f"{row.variant} {row.precision}"


def _column(score: str) -> str:
    metric = METRICS[score]
    return f"{metric.title}, %" if metric.unit == "share" else metric.title


def _file_row(row: Row, scores: Sequence[str | None]) -> TableRow:
    fronts = [name for name, on in (("latency", row.latency_front), ("size", row.size_front)) if on]
    cells: list[Cell] = [
        file_size(row.bytes or 0),
        None if row.latency_p50 is None else number(row.latency_p50, 2),
        None if row.latency_p90 is None else number(row.latency_p90, 2),
        *(cell for score in scores for cell in _figures(row, score)),
        _share(row.agreement, row.agreement_low, row.agreement_high),
        ", ".join(fronts) or None,
    ]
    return TableRow(name=row.file, cells=cells)


def _figures(row: Row, score: str | None) -> tuple[Cell, Cell]:
    """Return a figure of the file and of Keras; nothing where the file was measured by another one."""
    if score is None or row.score != score or row.value is None:
        return None, None
    interval = {"value": row.value, "low": row.value_low, "high": row.value_high}
    value = row.value if row.value_low is None else interval
    return measured(METRICS[score], value), measured(METRICS[score], row.keras)


def _share(value: float | None, low: float | None, high: float | None) -> Figure | None:
    if value is None or low is None or high is None:
        return None
    return Figure(number(100 * value, 1), f"{number(100 * low, 1)} to {number(100 * high, 1)}")
