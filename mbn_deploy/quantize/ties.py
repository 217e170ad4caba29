"""Scales for which no two kernel libraries round a product differently.

XNNPACK multiplies the product of the integers by one float32 factor, ONNX Runtime multiplies real
values and divides by the scale: equal but for the last bits of float32, which decide where a result
lies on the border of two levels. One level is little, but squeeze-and-excitation carries it to a
whole channel, and answers part. There are 65,536 products; a scale a little wider has them all
clear of the borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mbn_deploy.quantize.scheme import INT8_MAX, INT8_MIN, ActivationParams

WIDENING = 2.0**-13  # a step of the search, relative
TRIES = 256
# Three float32 operations are off by at most 3 half units in the last place, 2^-24 each; four times that.
MARGIN = 12 * 2.0**-24


def untied_product(result: ActivationParams, factors: Sequence[ActivationParams]) -> ActivationParams:
    """`result`, or the next wider parameters that leave no product of two levels of `factors` near a border."""
    levels = np.arange(INT8_MIN, INT8_MAX + 1)
    products = np.unique(np.outer(*(levels - f.zero_point for f in factors))).astype(np.float64)
    gain = factors[0].scale * factors[1].scale
    for step in range(TRIES):
        candidate = replace(result, scale=float(np.float32(result.scale * (1 + step * WIDENING))))
        values = products * (gain / candidate.scale)
        inside = values[np.abs(values + candidate.zero_point) <= INT8_MAX + 2]
        distance = np.abs(np.abs(inside) % 1 - 0.5)
        if (distance > MARGIN * (np.abs(inside) + 1)).all():
            return candidate
    return result
