"""Choose output scales with which all kernel libraries round products and means alike.

XNNPACK multiplies the product of two integers by one float32 factor, ONNX Runtime multiplies real values and divides
by the scale, and the mean over an image is computed in other ways on x86-64 and on ARM. The results are equal but for
the last bits of float32, which decide how a value halfway between two integers (a tie) is rounded. One level is
little, but squeeze-and-excitation spreads it over a whole channel, and predictions differ. There are only 65,536
products of two int8 values, and a limited number of sums: with a scale that is slightly wider none of them is a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.quantized import INT8_MAX, INT8_MIN, QuantParams

WIDENING = 2.0**-13  # relative step of the search
TRIES = 256
MOST_WIDENING = 1 + TRIES * WIDENING
# Three float32 operations are off by at most three half units in the last place, 2^-24 each; this is four times that.
MARGIN = 12 * 2.0**-24


def product_scale_without_ties(result: QuantParams, factors: Sequence[QuantParams]) -> QuantParams:
    """Return `result`, or the next wider parameters for which no product of two int8 values is close to a tie.

    `factors` are the parameters of the two tensors that are multiplied.
    """
    levels = np.arange(INT8_MIN, INT8_MAX + 1)
    products = np.unique(np.outer(*(levels - f.zero_point for f in factors)))

    def neighbours(places: Doubles) -> Doubles:
        above = np.clip(np.searchsorted(products, places), 1, len(products) - 1)
        return np.concatenate([products[above - 1], products[above]])

    return _without_ties(result, neighbours, factors[0].scale * factors[1].scale)


def mean_scale_without_ties(result: QuantParams, source: QuantParams, positions: int) -> QuantParams:
    """Return `result`, or the next wider parameters for which no mean over `positions` int8 values is close to a tie.

    Some kernels add up the stored integers and subtract the zero point in float32, which is less exact: XNNPACK on
    x86-64 was seen to round up a mean of 4.49995 levels above a zero point of -121.
    """
    least, most = (positions * (level - source.zero_point) for level in (INT8_MIN, INT8_MAX))

    def neighbours(places: Doubles) -> Doubles:
        return np.concatenate([np.floor(places), np.ceil(places)]).clip(least, most)

    return _without_ties(result, neighbours, source.scale / positions, positions * abs(source.zero_point))


def _without_ties(
    result: QuantParams, neighbours: Callable[[Doubles], Doubles], gain: float, offset: int = 0
) -> QuantParams:
    """Return the first candidate for which no value is close to a tie, or else the one that comes nearest to that.

    A value is an integer times `gain`; `neighbours` returns the possible integers next to each place, on both sides.
    `offset` is added to the integer by some kernels while float32 holds it, and enlarges the error.
    """
    ties = np.arange(INT8_MIN - 1, INT8_MAX + 1) + 0.5 - result.zero_point
    best, furthest = result, 0.0
    for step in range(TRIES):
        candidate = replace(result, scale=float(np.float32(result.scale * (1 + step * WIDENING))))
        factor = gain / candidate.scale
        nearest = np.abs(neighbours((ties / factor).astype(np.float64)) * factor)
        size = nearest + 1 + offset * factor
        clearance = float((np.abs(nearest % 1 - 0.5) / size).min()) / MARGIN
        if clearance > 1:
            return candidate
        if clearance > furthest:
            best, furthest = candidate, clearance
    return best
