"""A plot of the values of a regression: what a file says against what is right."""

from __future__ import annotations

from mbn_deploy.report.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, frame, grid, padded
from mbn_deploy.report.data import Scatter
from mbn_deploy.report.svg import element

HEIGHT = 300


def scatter_plot(scatter: Scatter) -> str:
    """Plot one value: a point for each image, and the diagonal on which both are the same."""
    low, high = padded([*scatter.x, *scatter.y], least=1e-6)
    x, y = Axis(low, high, LEFT + 14, WIDTH - RIGHT), Axis(low, high, HEIGHT - BOTTOM, TOP)
    lines = grid(x, y, scatter.beside, scatter.name)
    diagonal = element("line", x1=x(low), y1=y(low), x2=x(high), y2=y(high), class_="reference")
    points = [
        element("circle", cx=x(a), cy=y(b), r=2.2, class_="point tflite", opacity=0.7)
        for a, b in zip(scatter.x, scatter.y, strict=True)
    ]
    title = f"{scatter.name}: {scatter.file} against {scatter.beside}"
    description = f"{len(points)} images, from {low:.3g} to {high:.3g}; points near the diagonal are right."
    return frame(HEIGHT, f"scatter-{_identity(scatter.name)}", title, description, lines, diagonal, *points)


def _identity(name: str) -> str:
    """Return a name that can be part of an identity: letters and digits only, and different for different names."""
    return "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}" for c in name)
