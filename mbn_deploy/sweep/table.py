"""The table of a sweep: a row for each file and for each failure, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.manifest import ModelFile
from mbn_deploy.sweep.latency import LatencyPass
from mbn_deploy.sweep.pareto import front
from mbn_deploy.sweep.plan import Job
from mbn_deploy.sweep.record import Record
from mbn_deploy.verify.measures.measure import METRICS

KIND, SCHEMA_VERSION = "mbn-deploy sweep", 1
FORMULA = tuple("=+-@\t\r")  # characters that begin a formula in a spreadsheet
UNITS = {"bytes": "bytes", "latency": "milliseconds, one inference on one thread", "shares": "fractions of 1"}


@dataclass(frozen=True)
class Row:
    """A file of a bundle, or the failure of a variant (then `file` is None).

    Shares are fractions of 1 with the ends of their 95 % intervals, latencies are milliseconds on one thread. `score`
    is the key of the figure that the Pareto fronts compare, by the meaning of the model's answers: `top1`, `accuracy`,
    `mean_average_precision`, `mean_absolute_error`, `neighbour_accuracy`, or one that needs no labels, such as
    `agreement` with the Keras model. It is `value`, and `keras` for the Keras model. A file is on `latency_front`
    (`size_front`) if no other file of the sweep is as accurate and faster (smaller).
    """

    variant: str
    model: str
    alpha: float | None
    height: int | None
    width: int | None
    format: str | None = None
    precision: str | None = None
    file: str | None = None
    bytes: int | None = None
    images: int | None = None
    keras_top1: float | None = None
    top1: float | None = None
    top1_low: float | None = None
    top1_high: float | None = None
    top5: float | None = None
    agreement: float | None = None
    agreement_low: float | None = None
    agreement_high: float | None = None
    latency_p50: float | None = None
    latency_p90: float | None = None
    score: str | None = None
    value: float | None = None
    value_low: float | None = None
    value_high: float | None = None
    keras: float | None = None
    latency_front: bool = False
    size_front: bool = False
    error: str | None = None
    exit_code: int = 0


def rows(
    planned: Sequence[Job], records: Sequence[Record], bundles: Sequence[Bundle | None], timed: LatencyPass | None
) -> list[Row]:
    """Return a row for each file of each variant, then one for its failure, in the order of the sweep."""
    table: list[Row] = []
    for job, record, bundle in zip(planned, records, bundles, strict=True):
        variant = job.variant
        base = Row(
            variant=variant.name,
            model=variant.model or Path(variant.file or "").name,
            alpha=variant.alpha,
            height=variant.size,
            width=variant.size,
        )
        if bundle is not None:
            table += [_row(base, entry, bundle.metrics, timed) for entry in bundle.files]
        if record.status == "failed":
            table.append(replace(base, error=record.error, exit_code=record.exit_code))
    return _with_fronts(table)


def _row(base: Row, entry: ModelFile, metrics: dict[str, Any], timed: LatencyPass | None) -> Row:
    own, reference = metrics.get("files", {}).get(entry.path, {}), metrics.get("reference", {})
    top1, agreement = own.get("top1") or {}, own.get("agreement") or {}
    score = str(metrics.get("measure", "top1" if top1 else "agreement")) if own else None
    value, keras = _with_ends(own.get(score)), _with_ends(reference.get(score))
    height, width, _ = entry.picture
    p50, p90 = (None, None) if timed is None else timed.milliseconds.get(entry.sha256, (None, None))
    return replace(
        base,
        height=height,
        width=width,
        format=entry.format,
        precision=entry.precision,
        file=entry.path,
        bytes=entry.size,
        images=metrics.get("images"),
        keras_top1=reference.get("top1", {}).get("value"),
        top1=top1.get("value"),
        top1_low=top1.get("low"),
        top1_high=top1.get("high"),
        top5=(own.get("top5") or {}).get("value"),
        agreement=agreement.get("value"),
        agreement_low=agreement.get("low"),
        agreement_high=agreement.get("high"),
        latency_p50=p50,
        latency_p90=p90,
        score=score,
        value=value["value"],
        value_low=value["low"],
        value_high=value["high"],
        keras=keras["value"],
    )


def _with_ends(figure: Any) -> dict[str, float | None]:
    """Return a figure of the manifest with the ends of its interval, None where it has none."""
    return figure if isinstance(figure, dict) else {"value": figure, "low": None, "high": None}


def _with_fronts(table: list[Row]) -> list[Row]:
    """Mark the files on the fronts; only files with the same kind of score are compared."""
    marks: list[dict[str, Any]] = [{} for _ in table]
    for cost, mark in (("latency_p50", "latency_front"), ("bytes", "size_front")):
        for score in sorted({row.score for row in table if row.score is not None}):
            sign = -1.0 if METRICS[score].lower_is_better else 1.0
            at = [i for i, row in enumerate(table) if row.score == score and getattr(row, cost) is not None]
            on = front([(getattr(table[i], cost), sign * (table[i].value or 0.0)) for i in at])
            for i, holds in zip(at, on, strict=True):
                marks[i][mark] = holds
    return [replace(row, **more) for row, more in zip(table, marks, strict=True)]


def to_dict(table: Sequence[Row], timed: LatencyPass | None) -> dict[str, Any]:
    """Return the table as a JSON value."""
    latency = None if timed is None else {k: v for k, v in asdict(timed).items() if k != "milliseconds"}
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "units": UNITS,
        "latency": latency,
        "rows": [asdict(row) for row in table],
    }


def to_csv(table: Sequence[Row]) -> str:
    """Return the table as CSV (RFC 4180) with a header; an empty cell is unknown."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = [column.name for column in fields(Row)]
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in table)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
