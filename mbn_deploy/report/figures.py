"""Measured values as the pages write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbn_deploy.verify.measures.measure import Metric
from mbn_deploy.verify.statistics import Estimate

MINUS = "−"


@dataclass(frozen=True)
class Figure:
    """A measured value with its bounds, as text."""

    value: str
    bounds: str


Cell = str | Figure | None  # of a table; None was not measured


def number(value: float, digits: int) -> str:
    """Write a number with so many decimals and a true minus sign."""
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    """Write a number with its sign; one that rounds to zero has none."""
    shown = f"{value:+.{digits}f}"
    return shown.lstrip("+-") if float(shown) == 0 else shown.replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, without an exponent where possible."""
    return f"{value:.{digits}g}".replace("-", MINUS)


def three_digits(value: float) -> str:
    """Write a number with three significant digits, zeros included, so that figures in a column are equally precise."""
    return f"{value:#.3g}".removesuffix(".")


def milliseconds(value: float) -> str:
    """Write a time, as in `3.42 ms`."""
    return f"{three_digits(value)} ms"


def file_size(count: int) -> str:
    """Write a number of bytes, as in `3.4 MB` (1 MB = 1e6 bytes) or `812 kB`."""
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"


def percent(estimate: Estimate) -> Figure:
    """Write a share in percent."""
    value, low, high = (number(100 * v, 1) for v in (estimate.value, estimate.low, estimate.high))
    return Figure(value, f"{low} to {high}")


def points(estimate: Estimate, digits: int = 1) -> Figure:
    """Write a difference of shares in percentage points, with its sign."""
    value, low, high = (signed(100 * v, digits) for v in (estimate.value, estimate.low, estimate.high))
    return Figure(value, f"{low} to {high}")


def measured(metric: Metric, value: Mapping[str, Any] | float | None) -> Cell:
    """Write a figure of the manifest, with its interval if it has one: a share in percent, a number as it is."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return _single(metric, value)
    estimate = Estimate(value["value"], value["low"], value["high"])
    if metric.unit == "share":
        return percent(estimate)
    ends = (significant(v, 3) for v in (estimate.low, estimate.high))
    return Figure(significant(estimate.value, 4), " to ".join(ends))


def _single(metric: Metric, value: float) -> str:
    if metric.unit == "cosine":
        return number(value, 4)
    return number(100 * value, 1) if metric.unit == "share" else significant(value, 4)


def change(metric: Metric, estimate: Estimate, digits: int = 1) -> Figure:
    """Write a difference of a figure with its sign: of shares in percentage points."""
    if metric.unit == "share":
        return points(estimate, digits)
    value, low, high = (
        f"{v:+.3g}".replace("-", MINUS) if v else "0" for v in (estimate.value, estimate.low, estimate.high)
    )
    return Figure(value, f"{low} to {high}")


def estimate_of(data: Mapping[str, Any] | None) -> Estimate | None:
    """Read an estimate from the manifest's JSON; None stays None."""
    return None if data is None else Estimate(value=data["value"], low=data["low"], high=data["high"])
