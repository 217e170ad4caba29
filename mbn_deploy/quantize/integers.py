"""From ranges to integers: parameters of every activation, int8 kernels, int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import (
    INT8_MAX,
    INT8_MIN,
    LEVELS,
    PASS_THROUGH,
    WEIGHT_MAX,
    ActivationParams,
    QuantizedGraph,
    QuantizedWeights,
)
from mbn_deploy.quantize.int16 import MAX_WIDE_MULTIPLIER, wide_params, widened
from mbn_deploy.quantize.ranges import Calibrated
from mbn_deploy.quantize.rounding_ties import untied_mean, untied_product

# TFLite fixes the output of SOFTMAX and LOGISTIC: scale 1/256, zero point -128.
PROBABILITY = ActivationParams(1 / 256, INT8_MIN)
# [0, 1] exactly: saturation is the clip of the activation `unit`.
UNIT = ActivationParams(1 / LEVELS, INT8_MIN)
Granularity = Literal["per-channel", "per-tensor"]
# XNNPACK refuses a requantization multiplier (input scale * weight scale / output scale) of 256 or more.
MAX_MULTIPLIER = 255.0
# Room for the sum of products below the int32 limit of 2^31.
MAX_BIAS = 2**30
# TFLite's kernels count the steps up to the 6 of a fused ReLU6 in an int32 and refuse what does not fit in
# (kernel_util.cc, `no_integer_overflow_from_quantization`).
RELU6_BOUND, MAX_STEPS = 6.0, 2**31 - 1
# TFLite's reference SOFTMAX ends the process where a step of its input times 2^26 is not above 1 (quantization_util.cc,
# `PreprocessSoftmaxScaling`). All 256 levels together are 4e-6 then, and every class has the same share anyway.
LEAST_LOGIT_STEP = float(np.float32(1.001 * 2.0**-26))


def quantize_graph(
    state: Calibrated,
    input_params: ActivationParams,
    *,
    granularity: Granularity = "per-channel",
    float_outputs: frozenset[str] = frozenset(),
    wide_outputs: frozenset[str] = frozenset(),
) -> QuantizedGraph:
    """Choose parameters from what calibration saw and round the weights to nearest.

    Weights are symmetric, with one scale an output channel or one for all, activations asymmetric
    per tensor (arXiv 1806.08342, section 2). A tensor's range is the hull of what its channels need.
    The ops that write `float_outputs` stay in float; those that write `wide_outputs` have activations
    of 16 bits (`wide`).
    """
    activations = {state.graph.input: input_params}
    wide = {state.graph.input: widened(input_params)} if wide_outputs else {}
    logits = _logits(state.graph)
    weights: dict[str, QuantizedWeights] = {}
    for op in state.graph.ops:
        params, integer = _params(op, state, activations), op.output not in float_outputs
        wider = wide_params(op, state, wide) if wide_outputs else None
        if integer and op.kind in WEIGHTED:
            source = (wide if op.output in wide_outputs else activations)[op.inputs[0]].scale
            made = quantize_weights(op, source, granularity)
            if wider is not None and op.output in wide_outputs:
                wider = _within_multiplier(wider, source, made.scales, MAX_WIDE_MULTIPLIER)
            else:
                params = _within_multiplier(params, source, made.scales)
                params = replace(params, scale=max(params.scale, LEAST_LOGIT_STEP)) if op.output in logits else params
            weights[op.name] = made
        elif integer and op.output not in wide_outputs:
            params = _untied(op, params, state.graph, activations)
        activations[op.output] = params
        if wider is not None:
            written_in_8_bits = integer and op.output not in wide_outputs
            wide[op.output] = widened(params) if written_in_8_bits else wider
    quantized = QuantizedGraph(state.graph, activations, weights, float_outputs, wide_outputs, wide)
    ops = [_countable(op, quantized) for op in state.graph.ops]
    return replace(quantized, graph=state.graph.with_ops(ops))


def _logits(graph: Graph) -> set[str]:
    """The tensors that become the input of a softmax with their scale."""
    found: set[str] = set()
    for op in reversed(graph.ops):
        if op.kind == "softmax" or (op.kind in PASS_THROUGH and op.output in found):
            found.add(op.inputs[0])
    return found


def _countable(op: Op, graph: QuantizedGraph) -> Op:
    """`op` with a ReLU for a ReLU6 whose bound is too many steps away to be counted.

    The levels end far below it, so the integers are the same. Untrained networks have such tensors: without the
    statistics of their BatchNorm, values shrink from layer to layer.
    """
    if op.activation != "relu6" or graph.is_float(op):
        return op
    steps = RELU6_BOUND / graph.params(op)[op.output].scale
    return op if steps < MAX_STEPS else replace(op, activation="relu")


def _params(op: Op, state: Calibrated, activations: Mapping[str, ActivationParams]) -> ActivationParams:
    if op.kind in PASS_THROUGH:
        return activations[op.inputs[0]]
    if op.kind in ("softmax", "sigmoid"):
        return PROBABILITY
    if op.activation == "unit":
        return UNIT
    low, high = state.useful(op.output)
    return params_for(float(low.min()), float(high.max()))


def _untied(
    op: Op, params: ActivationParams, graph: Graph, activations: Mapping[str, ActivationParams]
) -> ActivationParams:
    """Parameters with which all interpreters round alike."""
    sources = [activations[name] for name in op.inputs]
    if op.kind == "multiply":
        return untied_product(params, sources)
    if op.kind == "global_average_pool":
        _, height, width, _ = graph.shapes[op.inputs[0]]
        return untied_mean(params, sources[0], height * width)
    return params


def params_for(low: float, high: float) -> ActivationParams:
    """Parameters whose 256 levels cover [low, high] and hit zero exactly (arXiv 1712.05877, section 3.1).

    ReLU6 that saturates on the calibration set has high = 6 and gets scale 6/255, zero point -128.
    A tensor that is always zero gets the range [0, 1]: any range is right for it, and a tiny one
    would break the requantization of what writes it.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < np.finfo(np.float32).tiny * LEVELS:
        low, high = 0.0, 1.0
    scale = float(np.float32((high - low) / LEVELS))
    zero_point = int(np.clip(np.rint(INT8_MIN - low / scale), INT8_MIN, INT8_MAX))
    return ActivationParams(scale, zero_point)


def _within_multiplier(
    params: ActivationParams, source: float, scales: Floats, most: float = MAX_MULTIPLIER
) -> ActivationParams:
    least = float(source * scales.max()) / most
    return params if params.scale >= least else replace(params, scale=float(np.float32(least)))


def quantize_weights(op: Op, input_scale: float, granularity: Granularity = "per-channel") -> QuantizedWeights:
    """int8 kernel, int32 bias at scale `input_scale * weight scale`; `scales` has one value an output channel.

    A channel whose weights are far smaller than its bias gets a scale that lets the bias fit into
    int32; its weights then round to what they are worth beside the bias, often to zero.
    """
    kernel, bias = op.weights()
    wide = kernel.astype(np.float64)
    columns = wide.reshape(-1, bias.size) if op.kind != "depthwise" else wide.reshape(*wide.shape[:2], -1)
    largest = np.abs(columns).max(axis=tuple(range(columns.ndim - 1)))
    least = np.abs(bias.astype(np.float64)) / (MAX_BIAS * input_scale)
    if granularity == "per-tensor":
        least[_saturates(op, bias)] = 0.0  # one channel that is always off must not cost all others their weights
    scales = np.maximum(largest / WEIGHT_MAX, least)
    if granularity == "per-tensor":
        scales = np.full_like(scales, scales.max())
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    integers = np.clip(np.rint(columns / scales), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    bias_integers = quantize_bias(bias, input_scale, scales)
    return QuantizedWeights(integers.reshape(kernel.shape), scales, bias_integers, granularity == "per-tensor")


def _saturates(op: Op, bias: Floats) -> npt.NDArray[np.bool_]:
    """Channels whose bias lies on the side that the activation cuts off: one too large for int32 may be cut as well."""
    off = (bias < 0) & (op.activation != "none")
    return np.asarray(off | ((bias > 0) & (op.activation in ("relu6", "unit"))))


def quantize_bias(bias: Floats, input_scale: float, scales: Floats) -> npt.NDArray[np.int32]:
    """Bias integers at scale `input_scale * scales`, in the float32 product that interpreters form."""
    unit = (np.float32(input_scale) * scales).astype(np.float64)
    rounded = np.clip(np.rint(bias.astype(np.float64) / unit), -MAX_BIAS, MAX_BIAS)
    integers: npt.NDArray[np.int32] = rounded.astype(np.int32)
    return integers
