"""Where to cut a tensor's range: min-max, percentile, MSE or entropy, over a sample of its values.

Wider ranges round more, narrower ones saturate more. Each method takes the range that calibration
found and gives a part of it, with zero inside.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.quantized import LEVELS
from mbn_deploy.quantize.recipe import RangeMethod

Range = tuple[float, float]
PERCENTILE = 99.99
SHARES = np.linspace(1.0, 0.3, 29)  # of the full range
BINS = 2048  # as in TensorRT's entropy calibration (Migacz, GTC 2017)
LEAST_COUNT = 1e-4  # of a level that nothing but what was cut off falls into: keeps the logarithm finite


def cut(values: Doubles, full: Range, method: RangeMethod) -> Range:
    """The part of the range `full` that `method` keeps, for a sample of `values`."""
    return _METHODS[method](values, full)


def _min_max(values: Doubles, full: Range) -> Range:
    _ = values
    return full


def _percentile(values: Doubles, full: Range) -> Range:
    low, high = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
    return max(full[0], min(float(low), 0.0)), min(full[1], max(float(high), 0.0))


def _mse(values: Doubles, full: Range) -> Range:
    """The least mean square of rounding and saturation; both ends move alone, the wider one first."""
    return _search(full, lambda low, high: float(((_rounded(values, low, high) - values) ** 2).mean()))


def _entropy(values: Doubles, full: Range) -> Range:
    """The least Kullback-Leibler divergence of the quantized histogram from the histogram.

    What is cut off counts as lying at the end of the range in the histogram that is compared with, and not at
    all in the quantized one: otherwise cutting off costs nothing where values lie evenly.
    """
    edges = np.linspace(full[0], full[1], BINS + 1)
    counts = np.histogram(np.clip(values, *full), edges)[0].astype(np.float64)
    centers = (edges[:-1] + edges[1:]) / 2

    def divergence(low: float, high: float) -> float:
        first, last = np.searchsorted(centers, low), np.searchsorted(centers, high, "right")
        inside = counts[first:last]
        wanted = inside.copy()
        wanted[0] += counts[:first].sum()
        wanted[-1] += counts[last:].sum()
        there = wanted > 0
        step = (high - low) / LEVELS
        levels = np.clip(np.rint((centers[first:last] - low) / step), 0, LEVELS).astype(int)
        mass = np.bincount(levels, inside, LEVELS + 1)
        filled = np.bincount(levels, there, LEVELS + 1)
        spread = (mass / np.maximum(filled, 1))[levels][there]
        share, given = wanted[there] / counts.sum(), np.maximum(spread, LEAST_COUNT) / max(spread.sum(), LEAST_COUNT)
        return float((share * np.log(share / given)).sum())

    return _search(full, divergence)


def _search(full: Range, cost: Callable[[float, float], float]) -> Range:
    low, high = full
    ends = ["high", "low"] if high >= -low else ["low", "high"]
    for end in ends:
        if end == "high" and high > 0:
            high = min((full[1] * share for share in SHARES), key=lambda h: cost(low, h))
        elif end == "low" and low < 0:
            low = min((full[0] * share for share in SHARES), key=lambda v: cost(v, high))
    return low, high


def _rounded(values: Doubles, low: float, high: float) -> Doubles:
    step = (high - low) / LEVELS
    rounded: Doubles = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step
    return rounded


_METHODS: dict[str, Callable[[Doubles, Range], Range]] = {
    "min-max": _min_max,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
