"""Choose scales for activations of 16 bits beside weights of 8 bits ("16x8").

TFLite's int16 kernels require zero point 0. So no range can end at 0 or at -3, and fused activations do what
saturation does in 8 bits (ReLU6 with its bound; the clip to [0, 1] is a ReLU whose upper end is the last level).
There are enough levels for that and for more: ranges reach twice as far as calibration saw, which costs one bit of
fifteen, and images unlike the calibration set do not saturate.

The kernels of TFLite 2.14 to 2.21 (tensorflow/lite/kernels: conv.cc, depthwise_conv.cc, add.cc, mul.cc,
activations.cc, internal/common.h) have these limits, which the scales chosen here respect:

- a requantization multiplier above 1 shifts a 32-bit sum to the left, where it may overflow;
- ADD shifts its inputs by 15 bits and needs an output scale of at least 2^-14 of the larger input's;
- SOFTMAX, LOGISTIC and TANH have the output scale 2^-15.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mbn_deploy.graph.graph import Op
from mbn_deploy.graph.quantized import INT16_MAX, PASS_THROUGH, QuantParams
from mbn_deploy.quantize.ranges import CalibratedGraph

HEADROOM = 2.0  # of what calibration saw
# Half of what would shift to the left. A scale that this limit widens has steps of two units of the sum: no precision
# is lost.
MAX_INT16_MULTIPLIER = 0.5
ADD_SPREAD = 2.0**-13  # least ratio of an output's scale to the larger input's
_BOUNDS = {"relu6": 6.0, "unit": 1.0}
_PRESCRIBED = dict.fromkeys(("softmax", "sigmoid", "tanh"), QuantParams(2.0**-15, 0, "int16"))
_SHIFT = 128  # |q - zero point| of 8 bits is at most 255, and 128 times that fits


def to_int16(params: QuantParams) -> QuantParams:
    """Return int16 parameters that represent every value of the int8 parameters `params` exactly."""
    return QuantParams(params.scale / _SHIFT, 0, "int16")


def int16_output_params(op: Op, state: CalibratedGraph, known: Mapping[str, QuantParams]) -> QuantParams:
    """Return int16 parameters for the output of `op`; `known` has those of the tensors before it."""
    if op.kind in PASS_THROUGH:
        return known[op.inputs[0]]
    if op.kind in _PRESCRIBED:
        return _PRESCRIBED[op.kind]
    scale = _reach(op, state) / INT16_MAX
    sources = [known[name].scale for name in op.inputs]
    if op.kind in ("add", "add_constant"):
        scale = max(scale, max(sources) * ADD_SPREAD)
    elif op.kind == "multiply":
        scale = max(scale, sources[0] * sources[1] / MAX_INT16_MULTIPLIER)
    return QuantParams(float(np.float32(scale)), 0, "int16")


def _reach(op: Op, state: CalibratedGraph) -> float:
    """Return the largest magnitude that the integers must represent; 1 for a tensor that is always zero."""
    if op.activation in _BOUNDS:
        return _BOUNDS[op.activation]
    low, high = state.useful(op.output)
    reach = HEADROOM * max(float(high.max()), -float(low.min()))
    return reach if reach >= np.finfo(np.float32).tiny * INT16_MAX else 1.0
