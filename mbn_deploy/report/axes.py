"""The frame of a plot: where a value lies, round numbers along the axes, and their lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mbn_deploy.report.html import Html, joined, tag

WIDTH = 420  # of every plot, in its own units: the page scales it, and on a phone letters must not get too small
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 24, 34


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`; `log` with equal ratios equally long."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value, rounded to a tenth; values beyond the ends are drawn at them."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        inside = min(max(value, self.low), self.high)
        share = (scale(inside) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers on the axis."""
        return _log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high], about `count` of them."""
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
    """(low, high) around `values` with some room, at least `least` apart."""
    low, high = min(values), max(values)
    room = max((high - low) * share, (least - (high - low)) / 2, 1e-9)
    return low - room, high + room


def grid(x: Axis, y: Axis, x_label: str, y_label: str, *, x_ticks: bool = True) -> Html:
    """Lines, numbers and names of both axes."""
    rows = [
        joined(
            [
                tag("line", x1=x.start, x2=x.end, y1=y(t), y2=y(t), class_="grid"),
                tag("text", f"{t:g}", x=x.start - 5, y=y(t) + 4, text_anchor="end"),
            ]
        )
        for t in y.ticks()
    ]
    columns = (
        [tag("text", f"{t:g}", x=x(t), y=y.start + 15, text_anchor="middle") for t in x.ticks()] if x_ticks else []
    )
    names = [
        tag("text", x_label, x=x.end, y=y.start + (30 if x_ticks else 16), text_anchor="end", class_="name"),
        tag("text", y_label, x=2, y=10, class_="name"),
        tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"),
    ]
    return joined([*rows, *columns, *names])


def frame(height: int, identity: str, title: str, description: str, *content: object) -> Html:
    """The picture as a whole, with its text alternative."""
    return tag(
        "svg",
        tag("title", title, id=f"{identity}-title"), tag("desc", description, id=f"{identity}-text"), *content,
        viewBox=f"0 0 {WIDTH} {height}", role="img", class_="plot",
        aria_labelledby=f"{identity}-title", aria_describedby=f"{identity}-text",
    )  # fmt: skip
