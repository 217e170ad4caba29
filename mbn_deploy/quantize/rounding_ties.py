"""Scales for which no two kernel libraries round a product differently.

XNNPACK multiplies the product of the integers by one float32 factor, ONNX Runtime multiplies real
values and divides by the scale, and the mean over an image is taken in other ways on x86-64 and on
ARM: equal but for the last bits of float32, which decide where a result lies on the border of two
levels. One level is little, but squeeze-and-excitation carries it to a whole channel, and answers
part. There are 65,536 products, and so many sums; a scale a little wider has them all clear of the
borders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.quantized import INT8_MAX, INT8_MIN, ActivationParams

WIDENING = 2.0**-13  # a step of the search, relative
TRIES = 256
# Three float32 operations are off by at most 3 half units in the last place, 2^-24 each; four times that.
MARGIN = 12 * 2.0**-24


def untied_product(result: ActivationParams, factors: Sequence[ActivationParams]) -> ActivationParams:
    """`result`, or the next wider parameters that leave no product of two levels of `factors` near a border."""
    levels = np.arange(INT8_MIN, INT8_MAX + 1)
    products = np.unique(np.outer(*(levels - f.zero_point for f in factors)))

    def around(places: Doubles) -> Doubles:
        above = np.clip(np.searchsorted(products, places), 1, len(products) - 1)
        return np.concatenate([products[above - 1], products[above]])

    return _untied(result, around, factors[0].scale * factors[1].scale)


def untied_mean(result: ActivationParams, source: ActivationParams, positions: int) -> ActivationParams:
    """The same for the mean over `positions` levels of `source`: for every sum that they can have.

    Some kernels add up levels as they are stored and take the zero point off in float32: seen in XNNPACK on
    x86-64, where a mean of 4.49995 levels above a zero point of -121 was rounded up.
    """
    least, most = (positions * (level - source.zero_point) for level in (INT8_MIN, INT8_MAX))

    def around(places: Doubles) -> Doubles:
        return np.concatenate([np.floor(places), np.ceil(places)]).clip(least, most)

    return _untied(result, around, source.scale / positions, positions * abs(source.zero_point))


def _untied(
    result: ActivationParams, around: Callable[[Doubles], Doubles], gain: float, offset: int = 0
) -> ActivationParams:
    """The first candidate that is clear of all borders, or the one that comes nearest to it.

    A value is an integer times `gain`; `around` gives the integers next to each place, on both sides.
    `offset` is what may be part of the integer while float32 holds it.
    """
    borders = np.arange(INT8_MIN - 1, INT8_MAX + 1) + 0.5 - result.zero_point
    best, furthest = result, 0.0
    for step in range(TRIES):
        candidate = replace(result, scale=float(np.float32(result.scale * (1 + step * WIDENING))))
        factor = gain / candidate.scale
        nearest = np.abs(around((borders / factor).astype(np.float64)) * factor)
        size = nearest + 1 + offset * factor
        clearance = float((np.abs(nearest % 1 - 0.5) / size).min()) / MARGIN
        if clearance > 1:
            return candidate
        if clearance > furthest:
            best, furthest = candidate, clearance
    return best
