"""The Pareto front: the points that no other point beats in one respect without being worse in the other."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each (cost, gain) whether it is on the Pareto front.

    It is, unless another point costs no more, gains no less, and is better in one of the two. Of equal points either
    all are on the front or none. In the order of cost these are the points that gain more than all cheaper ones.
    """
    order = sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1]))
    on = [False] * len(points)
    best: tuple[float, float] | None = None
    for at in order:
        if best is None or points[at][1] > best[1] or points[at] == best:
            on[at], best = True, points[at]
    return on
