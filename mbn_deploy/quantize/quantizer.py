"""From ranges to integers: parameters of every activation, int8 kernels, int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.export.graph import WEIGHTED, Floats, Graph, Op
from mbn_deploy.quantize.ranges import Calibrated
from mbn_deploy.quantize.scheme import (
    INT8_MAX,
    INT8_MIN,
    LEVELS,
    WEIGHT_MAX,
    ActivationParams,
    QuantizedGraph,
    QuantizedWeights,
)
from mbn_deploy.quantize.ties import untied_mean, untied_product

# TFLite fixes the output of SOFTMAX and LOGISTIC: scale 1/256, zero point -128.
PROBABILITY = ActivationParams(1 / 256, INT8_MIN)
# [0, 1] exactly: saturation is the clip of the activation `unit`.
UNIT = ActivationParams(1 / LEVELS, INT8_MIN)
# Ops whose int8 kernels hand values through: output and input share scale and zero point.
PASS_THROUGH = frozenset({"reshape", "pad", "max_pool", "average_pool", "global_max_pool"})
Granularity = Literal["per-channel", "per-tensor"]
# XNNPACK refuses a requantization multiplier (input scale * weight scale / output scale) of 256 or more.
MAX_MULTIPLIER = 255.0
# Room for the sum of products below the int32 limit of 2^31.
MAX_BIAS = 2**30


def quantize_graph(
    state: Calibrated,
    input_params: ActivationParams,
    *,
    granularity: Granularity = "per-channel",
    float_outputs: frozenset[str] = frozenset(),
) -> QuantizedGraph:
    """Choose parameters from what calibration saw and round the weights to nearest.

    Weights are symmetric, with one scale an output channel or one for all, activations asymmetric
    per tensor (arXiv 1806.08342, section 2). A tensor's range is the hull of what its channels need.
    The ops that write `float_outputs` stay in float.
    """
    activations = {state.graph.input: input_params}
    weights: dict[str, QuantizedWeights] = {}
    for op in state.graph.ops:
        params = _params(op, state, activations)
        if op.kind in WEIGHTED and op.output not in float_outputs:
            source = activations[op.inputs[0]].scale
            made = quantize_weights(op, source, granularity)
            params = _within_multiplier(params, source, made.scales)
            weights[op.name] = made
        elif op.output not in float_outputs:
            params = _untied(op, params, state.graph, activations)
        activations[op.output] = params
    return QuantizedGraph(state.graph, activations, weights, float_outputs)


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


def _within_multiplier(params: ActivationParams, source: float, scales: Floats) -> ActivationParams:
    least = float(source * scales.max()) / MAX_MULTIPLIER
    if params.scale >= least:
        return params
    return ActivationParams(float(np.float32(least)), params.zero_point)


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
    scales = np.maximum(largest / WEIGHT_MAX, least)
    if granularity == "per-tensor":
        scales = np.full_like(scales, scales.max())
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    integers = np.clip(np.rint(columns / scales), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    bias_integers = quantize_bias(bias, input_scale, scales)
    return QuantizedWeights(integers.reshape(kernel.shape), scales, bias_integers, granularity == "per-tensor")


def quantize_bias(bias: Floats, input_scale: float, scales: Floats) -> npt.NDArray[np.int32]:
    """Bias integers at scale `input_scale * scales`, in the float32 product that interpreters form."""
    unit = (np.float32(input_scale) * scales).astype(np.float64)
    limits = np.iinfo(np.int32)
    rounded = np.clip(np.rint(bias.astype(np.float64) / unit), limits.min, limits.max)
    integers: npt.NDArray[np.int32] = rounded.astype(np.int32)
    return integers
