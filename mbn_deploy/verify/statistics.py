"""Proportions, means and other figures, and their paired differences, with 95 % confidence intervals.

Those of proportions stay within what is possible (a proportion never leaves [0, 1]) and hold for small samples and for
proportions near 0 and 1, where "plus or minus 1.96 standard errors" does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array

GROUPS = 20  # of the jackknife
Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True)
class Estimate:
    """A measured figure with its 95 % interval; shares and their differences are fractions of 1."""

    value: float
    low: float
    high: float

    def within(self, least: float, most: float) -> Estimate:
        """Return the estimate with the ends of its interval in [least, most]."""
        return Estimate(self.value, max(self.low, least), min(self.high, most))


def negative(estimate: Estimate) -> Estimate:
    """Return the estimate of the opposite: a gain as a loss."""
    return Estimate(0.0 - estimate.value, 0.0 - estimate.high, 0.0 - estimate.low)


def proportion(hits: float, total: int) -> Estimate:
    """Return the proportion `hits` / `total` (at least 1) with Wilson's score interval.

    An image may be a hit in part: the interval is then too wide rather than too narrow.

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


def mean_estimate(values: Array) -> Estimate:
    """Return the mean of independent values (N,) with Student's interval."""
    wide = values.astype(np.float64)
    mean = float(wide.mean())
    if len(wide) < 2:
        return Estimate(mean, mean - abs(mean), mean + abs(mean))
    half = _student(len(wide) - 1) * float(wide.std(ddof=1)) / math.sqrt(len(wide))
    return Estimate(mean, mean - half, mean + half)


def group_of(images: int) -> npt.NDArray[np.intp]:
    """Return the group of each image for `jackknife`: neighbours, which are often alike, are in different groups."""
    return np.arange(images) % min(GROUPS, images)


def jackknife(value: float, without: Array) -> Estimate:
    """Return a figure of all images with the interval of the delete-a-group jackknife.

    It needs no formula for the figure: `without` holds the figure of the images without those of each group (groups of
    equal size, see `group_of`). Figures that are NaN, of a group that has all images of a kind, are left out.

    Source: P. S. Kott, "The delete-a-group jackknife", Journal of Official Statistics 17 (2001), 521-526.
    """
    known = without[np.isfinite(without)]
    if len(known) < 2:
        return Estimate(value, value - abs(value), value + abs(value))
    variance = (len(known) - 1) / len(known) * float(((known - known.mean()) ** 2).sum())
    half = _student(len(known) - 1) * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def _student(freedom: int) -> float:
    """Return the 97.5 % point of Student's distribution by its expansion at the normal one.

    From four degrees of freedom on it is exact to 1 %.
    """
    z = Z95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
