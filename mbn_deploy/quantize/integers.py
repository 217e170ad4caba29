"""Turn ranges into quantization parameters, and weights into int8 kernels with int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op, OpKind
from mbn_deploy.graph.quantized import (
    INT8_MIN,
    INT8_STEPS,
    PASS_THROUGH,
    SHARED_PARAMS,
    WEIGHT_MAX,
    QuantizedGraph,
    QuantizedWeights,
    QuantParams,
    params_for,
)
from mbn_deploy.quantize.int16 import MAX_INT16_MULTIPLIER, int16_output_params, to_int16
from mbn_deploy.quantize.ranges import CalibratedGraph
from mbn_deploy.quantize.rounding_ties import MOST_WIDENING, mean_scale_without_ties, product_scale_without_ties
from mbn_deploy.quantize.shared_ranges import shared_ranges

# TFLite prescribes the output parameters of SOFTMAX, LOGISTIC and TANH.
PROBABILITY = QuantParams(1 / 256, INT8_MIN)
PRESCRIBED: Mapping[OpKind, QuantParams] = {
    "softmax": PROBABILITY,
    "sigmoid": PROBABILITY,
    "tanh": QuantParams(1 / 128, 0),
}
# [0, 1] exactly, so that saturation is the clip of the activation `unit`.
UNIT = QuantParams(1 / INT8_STEPS, INT8_MIN)
Granularity = Literal["per-channel", "per-tensor"]
# XNNPACK refuses a requantization multiplier (input scale * weight scale / output scale) of 256 or more.
MAX_MULTIPLIER = 255.0
# Leaves room for the sum of products below the int32 limit of 2^31.
MAX_BIAS = 2**30
# TFLite's kernels count the steps from 0 to the 6 of a fused ReLU6 in an int32 and refuse more than fit
# (kernel_util.cc, `no_integer_overflow_from_quantization`).
RELU6_BOUND, MAX_STEPS = 6.0, 2**31 - 1
# TFLite's reference SOFTMAX aborts the process if the scale of its input times 2^26 is not above 1
# (`PreprocessSoftmaxScaling` in quantization_util.cc). All 256 levels together span 4e-6 then, and every class has the
# same probability anyway.
LEAST_LOGIT_STEP = float(np.float32(1.001 * 2.0**-26))


def quantize_graph(
    state: CalibratedGraph,
    input_params: QuantParams,
    *,
    granularity: Granularity = "per-channel",
    float_outputs: frozenset[str] = frozenset(),
    int16_outputs: frozenset[str] = frozenset(),
) -> QuantizedGraph:
    """Choose parameters from the calibrated ranges and round the weights to nearest.

    Weights are symmetric, with one scale an output channel or one for all; activations are asymmetric, with one scale
    a tensor (arXiv 1806.08342, section 2). A tensor's range is the hull of the ranges of its channels. The ops that
    write `float_outputs` stay in float, those that write `int16_outputs` get activations of 16 bits.
    """
    activations = {state.graph.input: input_params}
    int16_params = {state.graph.input: to_int16(input_params)} if int16_outputs else {}
    logits = _logits(state.graph)
    state = shared_ranges(state)
    weights: dict[str, QuantizedWeights] = {}
    for op in state.graph.ops:
        params = _output_params(op, state, activations)
        finer = int16_output_params(op, state, int16_params) if int16_outputs else None
        in_int16 = op.output in int16_outputs
        in_int8 = not in_int16 and op.output not in float_outputs
        if op.kind in WEIGHTED and op.output not in float_outputs:
            source = (int16_params if in_int16 else activations)[op.inputs[0]].scale
            rounded = weights[op.name] = quantize_weights(op, source, granularity)
            if finer is not None and in_int16:
                finer = _within_multiplier(finer, source, rounded.scales, MAX_INT16_MULTIPLIER)
            else:
                params = _within_multiplier(params, source, rounded.scales, MAX_MULTIPLIER)
                params = replace(params, scale=max(params.scale, LEAST_LOGIT_STEP)) if op.output in logits else params
        elif in_int8:
            params = _without_ties(op, params, state.graph, activations)
        activations[op.output] = params
        if finer is not None:
            int16_params[op.output] = to_int16(params) if in_int8 else finer
    quantized = QuantizedGraph(state.graph, activations, weights, float_outputs, int16_outputs, int16_params)
    ops = [with_countable_bound(op, quantized) for op in state.graph.ops]
    return replace(quantized, graph=state.graph.with_ops(ops))


def _logits(graph: Graph) -> set[str]:
    """Return the tensors that a softmax reads, directly or through ops that keep the scale."""
    logits: set[str] = set()
    for op in reversed(graph.ops):
        if op.kind == "softmax" or (op.kind in PASS_THROUGH and op.output in logits):
            logits.add(op.inputs[0])
    return logits


def with_countable_bound(op: Op, graph: QuantizedGraph) -> Op:
    """Replace a ReLU6 by a ReLU if the steps up to its bound do not fit into an int32.

    The range ends far below the bound, so the integers are the same. Untrained networks have such tensors: without
    the statistics of their BatchNorm, values shrink from layer to layer.
    """
    if op.activation != "relu6" or graph.is_float(op):
        return op
    steps = RELU6_BOUND / graph.params(op)[op.output].scale
    return op if steps < MAX_STEPS else replace(op, activation="relu")


def _output_params(op: Op, state: CalibratedGraph, activations: Mapping[str, QuantParams]) -> QuantParams:
    if op.kind in PASS_THROUGH:
        return activations[op.inputs[0]]
    if op.kind in PRESCRIBED:
        return PRESCRIBED[op.kind]
    if op.activation == "unit":
        return UNIT
    low, high = state.useful(op.output)
    params = params_for(float(low.min()), float(high.max()))
    return _widened_like_inputs(params, op, activations) if op.kind in SHARED_PARAMS else params


def _widened_like_inputs(params: QuantParams, op: Op, activations: Mapping[str, QuantParams]) -> QuantParams:
    """Return the parameters of an input that are `params`, slightly widened, or `params` if there are none.

    The rule against ties has widened them; the op that shares them need not quantize that input a second time.
    """
    known = [activations[name] for name in op.inputs]
    near = [p for p in known if p.zero_point == params.zero_point and 1 <= p.scale / params.scale <= MOST_WIDENING]
    return max([params, *near], key=lambda p: p.scale)


def _without_ties(op: Op, params: QuantParams, graph: Graph, activations: Mapping[str, QuantParams]) -> QuantParams:
    """Return `params`, widened so that all interpreters round the result of `op` alike."""
    sources = [activations[name] for name in op.inputs]
    if op.kind == "multiply":
        return product_scale_without_ties(params, sources)
    if op.kind == "global_average_pool":
        _, height, width, _ = graph.shapes[op.inputs[0]]
        return mean_scale_without_ties(params, sources[0], height * width)
    return params


def _within_multiplier(params: QuantParams, source: float, scales: Floats, most: float) -> QuantParams:
    """Widen `params` until no requantization multiplier (`source` * weight scale / output scale) is above `most`."""
    least = float(source * scales.max()) / most
    return params if params.scale >= least else replace(params, scale=float(np.float32(least)))


def quantize_weights(op: Op, input_scale: float, granularity: Granularity = "per-channel") -> QuantizedWeights:
    """Round the weights of `op` to an int8 kernel and an int32 bias at the scale `input_scale` * weight scale.

    A channel whose weights are far smaller than its bias gets a scale with which the bias fits into int32. Its weights
    are then rounded as coarsely as they matter beside the bias, often to zero.
    """
    kernel, bias = op.weights()
    doubles = kernel.astype(np.float64)
    columns = doubles.reshape(-1, bias.size) if op.kind != "depthwise" else doubles.reshape(*doubles.shape[:2], -1)
    largest = np.abs(columns).max(axis=tuple(range(columns.ndim - 1)))
    least = np.abs(bias.astype(np.float64)) / (MAX_BIAS * input_scale)
    if granularity == "per-tensor":
        least[may_saturate(op, bias)] = 0.0  # one channel that is always off must not cost all others their weights
    scales = np.maximum(largest / WEIGHT_MAX, least)
    if granularity == "per-tensor":
        scales = np.full_like(scales, scales.max())
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    integers = np.clip(np.rint(columns / scales), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    return QuantizedWeights(
        kernel=integers.reshape(kernel.shape),
        scales=scales,
        bias=quantize_bias(bias, input_scale, scales),
        per_tensor=granularity == "per-tensor",
    )


def may_saturate(op: Op, bias: Floats) -> npt.NDArray[np.bool_]:
    """Return which channels have a bias that the activation clips anyway, so that int32 may clip it, too."""
    off = (bias < 0) & (op.activation != "none")
    return np.asarray(off | ((bias > 0) & (op.activation in ("relu6", "unit"))))


def quantize_bias(bias: Floats, input_scale: float, scales: Floats) -> npt.NDArray[np.int32]:
    """Round biases at the scale `input_scale * scales`, as the float32 product that interpreters form."""
    unit = (np.float32(input_scale) * scales).astype(np.float64)
    rounded = np.clip(np.rint(bias.astype(np.float64) / unit), -MAX_BIAS, MAX_BIAS)
    integers: npt.NDArray[np.int32] = rounded.astype(np.int32)
    return integers
