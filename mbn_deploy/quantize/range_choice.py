"""Choose how much of each tensor's range to keep: wider ranges round more coarsely, narrower ones saturate more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import INT8_STEPS
from mbn_deploy.quantize.integers import PRESCRIBED
from mbn_deploy.quantize.ranges import CalibratedGraph, sample

SHARES = np.linspace(1.0, 0.3, 29)  # of the full range


def narrow_ranges(state: CalibratedGraph, images: Iterable[Floats], keep: frozenset[str]) -> CalibratedGraph:
    """Narrow ranges to those of least mean squared error on `images` (arrays (1, H, W, C)).

    Tensors in `keep`, and those of which `may_narrow` says no, keep their ranges.
    """
    names = [op.output for op in state.graph.ops if op.output not in keep and may_narrow(state, op)]
    if not names:
        return state
    values = sample(state.graph, names, images)
    ranges = dict(state.ranges)
    for name in names:
        low, high = state.useful(name)
        full = float(low.min()), float(high.max())
        ranges[name] = state.ranges[name].within(*least_mse_range(np.maximum(values[name], low.min()), full))
    return replace(state, ranges=ranges)


def may_narrow(state: CalibratedGraph, op: Op) -> bool:
    """Return whether the range of what `op` writes may be narrowed.

    What an activation bounds keeps its clean range, and sums with constants the integers that make them exact. Vectors
    keep their ranges, too: these have margins, because values beyond those of the calibration set are not rare there.
    """
    shape = state.graph.shapes[op.output]
    bounded = op.activation in ("relu6", "unit") or op.kind in PRESCRIBED or op.kind == "add_constant"
    return not bounded and len(shape) > 2 and shape[1:3] != (1, 1)


def least_mse_range(values: Doubles, full: tuple[float, float]) -> tuple[float, float]:
    """Return the part of the range `full` with the least mean squared error of rounding and saturation.

    `values` are a sample of the tensor. The ends of the range are searched one after the other, first the one further
    from zero; zero stays inside.
    """

    def error(low: float, high: float) -> float:
        return float(((_rounded(values, low, high) - values) ** 2).mean())

    low, high = full
    ends = ["high", "low"] if high >= -low else ["low", "high"]
    for end in ends:
        if end == "high" and high > 0:
            high = min((full[1] * share for share in SHARES), key=lambda h: error(low, h))
        elif end == "low" and low < 0:
            low = min((full[0] * share for share in SHARES), key=lambda v: error(v, high))
    return low, high


def _rounded(values: Doubles, low: float, high: float) -> Doubles:
    step = (high - low) / INT8_STEPS
    rounded: Doubles = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step
    return rounded
