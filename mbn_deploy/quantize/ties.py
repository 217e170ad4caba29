"""Scales for which no two kernel libraries round a product differently.

XNNPACK multiplies the product of the integers by one float32 factor, ONNX Runtime multiplies real
values and divides by the scale, and the mean over an image is taken in other ways on x86-64 and on
ARM: equal but for the last bits of float32, which decide where a result lies on the border of two
levels. One level is little, but squeeze-and-excitation carries it to a whole channel, and answers
part. There are 65,536 products, and so many sums; a scale a little wider has them all clear of the
borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mbn_deploy.quantize.scheme import INT8_MAX, INT8_MIN, ActivationParams

WIDENING = 2.0**-13  # a step of the search, relative
TRIES = 256
# Three float32 operations are off by at most 3 half units in the last place, 2^-24 each; four times that.
MARGIN = 12 * 2.0**-24


def untied_product(result: ActivationParams, factors: Sequence[ActivationParams]) -> ActivationParams:
    """`result`, or the next wider parameters that leave no product of two levels of `factors` near a border."""
    levels = np.arange(INT8_MIN, INT8_MAX + 1)
    products = np.unique(np.outer(*(levels - f.zero_point for f in factors)))
    return _untied(result, products, factors[0].scale * factors[1].scale)


def untied_mean(result: ActivationParams, source: ActivationParams, positions: int) -> ActivationParams:
    """The same for the mean over `positions` levels of `source`: for every sum that they can have."""
    sums = np.arange(positions * (INT8_MIN - source.zero_point), positions * (INT8_MAX - source.zero_point) + 1)
    return _untied(result, sums, source.scale / positions)


def _untied(result: ActivationParams, integers: npt.NDArray[np.int64], gain: float) -> ActivationParams:
    """The first candidate that is clear of all borders, or the one that comes nearest to it."""
    best, furthest = result, 0.0
    for step in range(TRIES):
        candidate = replace(result, scale=float(np.float32(result.scale * (1 + step * WIDENING))))
        values = integers * (gain / candidate.scale)
        inside = np.abs(values[np.abs(values + candidate.zero_point) <= INT8_MAX + 2])
        clearance = float((np.abs(inside % 1 - 0.5) / (inside + 1)).min()) / MARGIN
        if clearance > 1:
            return candidate
        if clearance > furthest:
            best, furthest = candidate, clearance
    return best
