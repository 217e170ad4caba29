"""Axes and frame of a plot: where a value is drawn, round numbers along the axes, and grid lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mbn_deploy.report.svg import Svg, element, joined

WIDTH = 420  # of a plot in its own units; the page scales it, and letters must stay readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 24, 34


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to coordinates from `start` to `end`, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value, rounded to a tenth; values beyond an end are drawn at it."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        inside = min(max(value, self.low), self.high)
        share = (scale(inside) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round numbers on the axis."""
        return _log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten in [low, high], about `count` of them."""
    step = _round_step((high - low) / count)
    first = math.ceil(round(low / step, 6))
    last = math.floor(round(high / step, 6))
    return [round(n * step, 10) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2 else (1, 2, 5)
    return [t for p in powers for t in (s * 10.0**p for s in steps) if low <= t * (1 + 1e-9) and t <= high * (1 + 1e-9)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(s for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))


def padded(values: Sequence[float], *, share: float = 0.08, least: float = 1.0) -> tuple[float, float]:
    """Return (low, high) around `values` with some room, at least `least` apart."""
    low, high = min(values), max(values)
    room = max((high - low) * share, (least - (high - low)) / 2, 1e-9)
    return low - room, high + room


def grid(x: Axis, y: Axis, x_label: str, y_label: str, *, x_ticks: bool = True) -> Svg:
    """Draw grid lines, numbers and names of both axes."""
    rows = [
        joined(
            [
                element("line", x1=x.start, x2=x.end, y1=y(t), y2=y(t), class_="grid"),
                element("text", f"{t:g}", x=x.start - 5, y=y(t) + 4, text_anchor="end"),
            ]
        )
        for t in y.ticks()
    ]
    columns = (
        [element("text", f"{t:g}", x=x(t), y=y.start + 15, text_anchor="middle") for t in x.ticks()] if x_ticks else []
    )
    names = [
        element("text", x_label, x=x.end, y=y.start + (30 if x_ticks else 16), text_anchor="end", class_="name"),
        element("text", y_label, x=2, y=10, class_="name"),
        element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"),
    ]
    return joined([*rows, *columns, *names])


def frame(height: int, identity: str, title: str, description: str, *content: object) -> Svg:
    """Draw a plot as a whole, with its text alternative."""
    return element(
        "svg",
        element("title", title, id=f"{identity}-title"),
        element("desc", description, id=f"{identity}-text"),
        *content,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        class_="plot",
        aria_labelledby=f"{identity}-title",
        aria_describedby=f"{identity}-text",
    )
