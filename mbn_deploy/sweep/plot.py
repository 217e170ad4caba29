"""Plots a Pareto front: a point for each file, and a step line through those that no other file beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mbn_deploy.report.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, frame, grid, padded
from mbn_deploy.report.points import BASELINE, LINE, Box, free_place, marker, name_in, text_width
from mbn_deploy.report.svg import Svg, element

HEIGHT = 300
BESIDE = 7  # units between a point and its name


@dataclass(frozen=True)
class Point:
    """A file in the plot: its cost (milliseconds or megabytes), its score in percent, and whether it is on the front.

    `kind` is its format, `tflite` or `onnx`, and decides the shape.
    """

    name: str
    kind: str
    cost: float
    percent: float
    front: bool


def front_plot(points: Sequence[Point], identity: str, cost: str, measure: str, description: str) -> Svg:
    """Plot percent against cost. The axis of the cost is logarithmic, since sweeps span orders of magnitude."""
    low, high = padded([p.percent for p in points], least=2.0)
    costs = [p.cost for p in points]
    x = Axis(min(costs) / 1.3, max(costs) * 1.3, LEFT, WIDTH - RIGHT, log=True)
    y = Axis(max(low, 0.0), min(high, 100.0), HEIGHT - BOTTOM, TOP + 8)
    best = sorted((p for p in points if p.front), key=lambda p: (p.cost, p.percent))
    steps = _steps([(x(p.cost), y(p.percent)) for p in best], x.end)
    line = element("polyline", points=" ".join(f"{a},{b}" for a, b in steps), class_="series alone")
    marks = [_mark(p, x, y) for p in sorted(points, key=lambda p: p.front)]
    title = f"{measure} against {cost}"
    return frame(
        HEIGHT, identity, title, description, grid(x, y, cost, f"{measure}, %"), line, *marks, *_names(best, x, y)
    )


def _steps(corners: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the corners of the step line: from each point horizontally to the next one's cost, and on to `end`."""
    line: list[tuple[float, float]] = []
    for at, level in corners:
        if line:
            line.append((at, line[-1][1]))
        line.append((at, level))
    return [*line, (end, line[-1][1])] if line else []


def _mark(point: Point, x: Axis, y: Axis) -> Svg:
    radius, opacity = (4.0, None) if point.front else (2.5, 0.45)
    tooltip = element("title", f"{point.name}: {point.percent:.1f} %")
    return marker(point.kind, x(point.cost), y(point.percent), radius, tooltip, opacity=opacity)


def _names(best: Sequence[Point], x: Axis, y: Axis) -> Iterator[Svg]:
    """Write the names of the front's points where there is room; the table has all of them."""
    taken: list[Box] = []
    for point in best:
        at, level = x(point.cost), y(point.percent)
        right, left = at + BESIDE, at - BESIDE - text_width(point.name)
        places = [(right, level + LINE - BASELINE), (left, level - 2 * BASELINE), (right, level + 2 * LINE - BASELINE)]
        box = free_place(point.name, places, taken, x, y)
        if box is not None:
            taken.append(box)
            yield name_in(box, point.name)
