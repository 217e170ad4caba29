"""The Pareto front: what nothing else beats in one respect without being worse in another."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each (cost, gain), whether it is on the front: no other costs no more and gains no less, one of them better.

    Equal points are on it together. Sorted by cost, a point is on it that gains more than all cheaper ones.
    """
    order = sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1]))
    on = [False] * len(points)
    best: tuple[float, float] | None = None
    for at in order:
        if best is None or points[at][1] > best[1] or points[at] == best:
            on[at], best = True, points[at]
    return on
