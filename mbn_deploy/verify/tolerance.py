"""The tolerances for a file's outputs on other machines, and their reasons."""

from __future__ import annotations

import numpy as np

from mbn_deploy.arrays import Array

# Levels that int16 outputs may differ by: half of one int8 level for logits, a whole one for probabilities.
INT16_LEVELS = 128


def tolerance(outputs: Array, precision: str, level: float | None, fan_ins: list[int], *, probabilities: bool) -> float:
    """Return how far the raw outputs of a file may differ on another machine, in their own unit.

    Integer files may differ by one quantization level, since requantization rounds at most one level differently.
    `level` is the size of a level in real numbers, for int8 files whose outputs are floats. In int16 files one level
    in an early layer becomes many in the last, so they are allowed what int8 is: `INT16_LEVELS`. Dynamic-range files
    round activations to 8 bits too, and may differ by one such level. For float files see `float_tolerance`.
    """
    levels = tolerated_levels(outputs.dtype.name, precision)
    if outputs.dtype.kind in "iu":
        return float(levels)
    if level is not None:
        return levels * level * (1 + 1e-6)  # the difference of two float32 multiples of it
    if precision == "dynamic":
        return (1.0 if probabilities else float(np.ptp(outputs))) / 256
    return float_tolerance(outputs, fan_ins, probabilities=probabilities)


def tolerated_levels(output_type: str, precision: str) -> int:
    """Return how many quantization levels an integer model's output may differ."""
    return INT16_LEVELS if "int16" in (output_type, precision.removesuffix("x8")) else 1


def float_tolerance(outputs: Array, fan_ins: list[int], *, probabilities: bool) -> float:
    """Return how far float32 outputs may differ where sums are added up in another order.

    The rounding error of a sum of n products is about eps * sqrt(n) of its size (errors of random sign). Errors of
    layers add in quadrature, so that of logits is eps * sqrt(sum of n). Four times that is allowed. A probability
    moves by at most 1/4 of the change between two logits; their range is derived from the outputs as
    ln(largest / smallest probability).

    Args:
        outputs: float32 (N, classes).
        fan_ins: number of products in one sum, for every layer.
        probabilities: whether the outputs are probabilities rather than logits.
    """
    relative = relative_tolerance(fan_ins)
    if not probabilities:
        return relative * float(np.abs(outputs).max())
    least = float(np.finfo(np.float32).tiny)
    spread = float(np.log(np.maximum(outputs, least).max() / np.maximum(outputs, least).min()))
    return relative * max(spread, 1.0) / 2


def relative_tolerance(fan_ins: list[int]) -> float:
    """Return how far float32 values may differ, as a fraction of the largest of them; see `float_tolerance`."""
    return 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(sum(fan_ins)))
