"""Plots of the report as SVG: accuracy against latency, quantization noise and channel spread by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbn_deploy.report.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, frame, grid, padded
from mbn_deploy.report.points import LINE, Box, free_place, marker, name_in, text_width
from mbn_deploy.report.svg import Svg, element, joined
from mbn_deploy.verify.latency import Latency
from mbn_deploy.verify.statistics import Estimate

MOST_DB = 80.0  # nearly exact layers are drawn at this height, to leave room for the others
RADIUS = 4


@dataclass(frozen=True)
class Mark:
    """A file in the plot: its latency, its share of right answers, and its format (`tflite` or `onnx`)."""

    name: str
    kind: str
    latency: Latency
    share: Estimate


def accuracy_plot(marks: Sequence[Mark], reference: float | None, measure: str, description: str) -> Svg:
    """Plot shares in percent against milliseconds.

    Args:
        marks: the files.
        reference: percent of the Keras model, drawn as a dashed line; None without labels.
        measure: what the shares are of.
        description: the text alternative of the plot.
    """
    height = 300
    ends = [100 * e for m in marks for e in (m.share.low, m.share.high)] + ([] if reference is None else [reference])
    low, high = padded(ends, least=2.0)
    x = Axis(0.0, 1.25 * max(m.latency.low for m in marks), LEFT, WIDTH - RIGHT)
    y = Axis(max(low, 0.0), min(high, 100.0), height - BOTTOM, TOP)
    dashed = None
    taken: list[Box] = [_box(m, x, y) for m in marks]
    if reference is not None:
        at = y(reference)
        dashed = joined(
            [
                element("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="reference"),
                element("text", "Keras", x=x.end, y=at - 4, text_anchor="end", class_="quiet"),
            ]
        )
        taken.append((x.end - 36, at - LINE, x.end, at))
    drawn, names = [], []
    for mark in sorted(marks, key=lambda m: m.latency.low):
        drawn.append(_mark(mark, x, y))
        names.append(_name(mark, x, y, taken))
    title = f"{measure} against latency"
    lines = grid(x, y, "milliseconds per inference, one thread", f"{measure}, %")
    return frame(height, "tradeoff", title, description, lines, dashed, *drawn, *names)


def _box(mark: Mark, x: Axis, y: Axis) -> Box:
    at, middle = x(mark.latency.low), y(100 * mark.share.value)
    return at - RADIUS - 1, middle - RADIUS - 1, at + RADIUS + 1, middle + RADIUS + 1


def _mark(mark: Mark, x: Axis, y: Axis) -> Svg:
    """Draw the point of a file with its 95 % interval."""
    at, middle = x(mark.latency.low), y(100 * mark.share.value)
    low, high = y(100 * mark.share.low), y(100 * mark.share.high)
    interval = element("line", x1=at, x2=at, y1=low, y2=high, class_="interval")
    return element("g", interval, marker(mark.kind, at, middle, RADIUS))


def _name(mark: Mark, x: Axis, y: Axis, taken: list[Box]) -> Svg:
    """Write the file's name at the nearest free place, with a line to it unless that is beside the point."""
    at, middle = x(mark.latency.low), y(100 * mark.share.value)
    right, left = at + RADIUS + 4, at - RADIUS - 4 - text_width(mark.name)
    shifts = (n * LINE * sign for n in range(16) for sign in (-1, 1))
    box = free_place(mark.name, ((side, middle + s) for s in shifts for side in (right, left)), taken, x, y)
    if box is None:  # it covers something, but is there
        return name_in((right, middle - LINE / 2, right, middle + LINE / 2), mark.name)
    taken.append(box)
    line = (box[1] + box[3]) / 2
    if abs(line - middle) < LINE:
        return name_in(box, mark.name)
    end = box[0] - 2 if box[0] > at else box[2] + 2
    leader = element("line", x1=at, y1=middle, x2=round(end, 1), y2=round(line, 1), class_="leader")
    return joined([leader, name_in(box, mark.name)])


def noise_plot(alone: Sequence[float], run: Sequence[float], identity: str, description: str) -> Svg:
    """Plot the signal-to-noise ratio in dB of every layer in order, alone and as the network runs."""
    height = 210
    low, high = padded([min(value, MOST_DB) for value in (*alone, *run)], least=10.0)
    x, y = _layers(len(run)), Axis(low, high, height - BOTTOM, TOP)
    lines = grid(x, y, "layers, from input to output", "signal to noise, dB", x_ticks=False)
    series = [_series(alone, x, y, "alone"), _series(run, x, y, "run")]
    return frame(height, f"noise-{identity}", "Signal to noise by layer", description, lines, *series)


def _layers(count: int) -> Axis:
    return Axis(-0.5, max(count, 2) - 0.5, LEFT, WIDTH - RIGHT)


def _series(values: Sequence[float], x: Axis, y: Axis, kind: str) -> Svg:
    points = [(x(at), y(value)) for at, value in enumerate(values)]
    line = element("polyline", points=" ".join(f"{a},{b}" for a, b in points), class_=f"series {kind}")
    return joined([line, *(element("circle", cx=a, cy=b, r=1.8, class_=f"dot {kind}") for a, b in points)])


def spread_plot(pairs: Sequence[tuple[float | None, float | None]], identity: str, description: str) -> Svg:
    """Plot how uneven the channels of every layer are (widest over median), before and after conditioning."""
    height = 210
    known = [value for pair in pairs for value in pair if value is not None] or [1.0]
    x, y = _layers(len(pairs)), Axis(1.0, max(1.1 * max(known), 10.0), height - BOTTOM, TOP, log=True)
    lines = grid(x, y, "layers, from input to output", "widest channel over median channel", x_ticks=False)
    marks = [_pair(x(at), pair, y) for at, pair in enumerate(pairs)]
    title = "Spread of channels before and after conditioning"
    return frame(height, f"spread-{identity}", title, description, lines, *marks)


def _pair(at: float, pair: tuple[float | None, float | None], y: Axis) -> Svg:
    before, after = (None if value is None else y(value) for value in pair)
    parts = []
    if before is not None and after is not None:
        parts.append(element("line", x1=at, x2=at, y1=before, y2=after, class_="pair"))
    if before is not None:
        parts.append(element("circle", cx=at, cy=before, r=2.2, class_="dot before"))
    if after is not None:
        parts.append(element("circle", cx=at, cy=after, r=2.2, class_="dot after"))
    return joined(parts)
