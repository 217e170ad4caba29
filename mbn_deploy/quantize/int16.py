"""Activations of 16 bits beside weights of 8 ("16x8"): which scale each tensor gets.

TFLite's int16 kernels want zero point 0. So there is no range that ends at 0 or at -3, and what saturation
does in 8 bits is done by fused activations (ReLU6 with its bound; the clip to [0, 1] is a ReLU whose upper
end is the last level). There are levels enough for that, and for more: ranges reach twice as far as was
seen, which costs one bit of fifteen, and images unlike the calibration set do not saturate.

What the kernels of TFLite 2.14 to 2.21 demand (tensorflow/lite/kernels: conv.cc, depthwise_conv.cc, add.cc,
mul.cc, activations.cc, internal/common.h) is kept to by scales alone:

- a requantization multiplier above 1 shifts a 32-bit sum to the left, where it may run over;
- ADD raises its inputs by 15 bits and wants an output scale of at least 2^-14 of the larger input's;
- SOFTMAX and LOGISTIC have the output scale 2^-15.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import INT16_MAX, PASS_THROUGH, ActivationParams
from mbn_deploy.quantize.ranges import Calibrated

HEADROOM = 2.0  # how much further than seen a range reaches
# Half of what would shift to the left. A scale that it widens has steps of two units of the sum: nothing is lost.
MAX_WIDE_MULTIPLIER = 0.5
ADD_SPREAD = 2.0**-13  # of an output's scale to its inputs'
_BOUNDS = {"relu6": 6.0, "unit": 1.0}
_PROBABILITY = ActivationParams(2.0**-15, 0, "int16")
_SHIFT = 128  # |q - zero point| of 8 bits is at most 255, and 128 times that fits


def widened(params: ActivationParams) -> ActivationParams:
    """Parameters of 16 bits for every value that those of 8 bits stand for: the same number, exactly."""
    return ActivationParams(params.scale / _SHIFT, 0, "int16")


def wide_params(op: Op, state: Calibrated, wide: Mapping[str, ActivationParams]) -> ActivationParams:
    """Parameters of 16 bits for what `op` writes; `wide` has those of the tensors before it."""
    if op.kind in PASS_THROUGH:
        return wide[op.inputs[0]]
    if op.kind in ("softmax", "sigmoid"):
        return _PROBABILITY
    scale = _reach(op, state) / INT16_MAX
    sources = [wide[name].scale for name in op.inputs]
    if op.kind in ("add", "add_constant"):
        scale = max(scale, max(sources) * ADD_SPREAD)
    elif op.kind == "multiply":
        scale = max(scale, sources[0] * sources[1] / MAX_WIDE_MULTIPLIER)
    return ActivationParams(float(np.float32(scale)), 0, "int16")


def _reach(op: Op, state: Calibrated) -> float:
    """The largest magnitude that the levels must hold; 1 for a tensor that is always zero."""
    if op.activation in _BOUNDS:
        return _BOUNDS[op.activation]
    low, high = state.useful(op.output)
    reach = HEADROOM * max(float(high.max()), -float(low.min()))
    return reach if reach >= np.finfo(np.float32).tiny * INT16_MAX else 1.0
