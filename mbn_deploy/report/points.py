"""Points of a plot and their names, placed so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mbn_deploy.report.axes import WIDTH, Axis
from mbn_deploy.report.svg import Svg, element

LETTER, LINE = 5.9, 13  # width of a letter and height of a line, in the plot's units
BASELINE = 4  # units from the middle of a line to its baseline
Box = tuple[float, float, float, float]  # left, top, right, bottom


def marker(kind: str, at: float, level: float, radius: float, *content: Svg, opacity: float | None = None) -> Svg:
    """Draw the point of a file: a circle for `tflite`, a square for `onnx`."""
    shape = f"point {kind}"
    if kind == "onnx":
        side = 2 * radius
        return element(
            "rect", *content, x=at - radius, y=level - radius, width=side, height=side, class_=shape, opacity=opacity
        )
    return element("circle", *content, cx=at, cy=level, r=radius, class_=shape, opacity=opacity)


def text_width(text: str) -> float:
    """Return about how wide a text is."""
    return LETTER * len(text)


def free_place(text: str, places: Iterable[tuple[float, float]], taken: Sequence[Box], x: Axis, y: Axis) -> Box | None:
    """Return the box of a text at the first of `places` (left, middle) that is inside the plot and covers no other."""
    width = text_width(text)
    boxes = ((left, middle - LINE / 2, left + width, middle + LINE / 2) for left, middle in places)
    return next((box for box in boxes if _inside(box, x, y) and not any(_overlap(box, other) for other in taken)), None)


def name_in(box: Box, text: str) -> Svg:
    """Write a text into its box."""
    left, top, _, bottom = box
    return element("text", text, x=round(left, 1), y=round((top + bottom) / 2 + BASELINE, 1))


def _inside(box: Box, x: Axis, y: Axis) -> bool:
    left, top, right, bottom = box
    return left >= x.start and right <= WIDTH and top >= y.end - LINE and bottom <= y.start


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
