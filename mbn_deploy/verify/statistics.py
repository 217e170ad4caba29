"""Proportions and their paired differences with 95 % confidence intervals.

Both intervals stay within what is possible (a proportion never leaves [0, 1]) and hold for small samples and for
proportions near 0 and 1, where "plus or minus 1.96 standard errors" does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True)
class Estimate:
    """A measured share or difference of shares with its 95 % interval, all as fractions of 1."""

    value: float
    low: float
    high: float


def proportion(hits: int, total: int) -> Estimate:
    """Return the proportion `hits` / `total` (at least 1) with Wilson's score interval.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), 209-212.
    """
    share, spread = hits / total, Z95**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    low = 0.0 if hits == 0 else centre - half
    return Estimate(share, low, 1.0 if hits == total else centre + half)


def paired_difference(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> Estimate:
    """Return the proportion of `ours` minus that of `theirs`, with Newcombe's interval for paired data.

    Both are bool (N,), N at least 1, of the same images in the same order.

    Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17 (1998), 2635-2650, method 10:
    the two Wilson intervals, combined with the (continuity-corrected) correlation of the pairs.
    """
    n = len(ours)
    both, neither = int((ours & theirs).sum()), int((~ours & ~theirs).sum())
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    a, b = proportion(both + only_ours, n), proportion(both + only_theirs, n)
    phi = _correlation(both, only_ours, only_theirs, neither)
    value = (only_ours - only_theirs) / n
    below = _combine(a.value - a.low, b.high - b.value, phi)
    above = _combine(a.high - a.value, b.value - b.low, phi)
    return Estimate(value, value - below, value + above)


def _combine(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0))


def _correlation(both: int, only_ours: int, only_theirs: int, neither: int) -> float:
    n = both + only_ours + only_theirs + neither
    margins = (both + only_ours) * (only_theirs + neither) * (both + only_theirs) * (only_ours + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - only_ours * only_theirs)
    if product > 0:
        product = max(product - n / 2, 0.0)
    return product / math.sqrt(margins)
