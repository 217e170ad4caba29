"""Empirical bias correction: rounded weights and activations shift a channel's mean, and its bias takes that back.

Every op runs in float on float inputs and in integers on what the integers before it really gave, so
a correction knows of those before it (arXiv 1906.04721, section 4.2, with images instead of BatchNorm
statistics). Compared are the values that the next op sees, behind the activation and the saturation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.export.execute import activated, run_op
from mbn_deploy.export.graph import WEIGHTED, Doubles, Floats, Op
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.quantizer import quantize_bias
from mbn_deploy.quantize.scheme import ActivationParams, QuantizedGraph, QuantizedWeights

ROUNDS = 3  # saturation makes the mean bend with the bias; each round leaves a fraction of the shift


def correct_biases(quantized: QuantizedGraph, images: Floats, progress: Progress = silent) -> QuantizedGraph:
    """`quantized` with other biases, so that channel means on `images` (N, H, W, C) are those in float."""
    graph = quantized.graph
    weights = dict(quantized.weights)
    real: dict[str, Any] = {graph.input: images}
    stored: dict[str, Any] = {graph.input: as_stored(images, quantized.activations[graph.input])}
    last = {name: at for at, op in enumerate(graph.ops) for name in op.inputs}
    for at, op in enumerate(graph.ops):
        shape = (len(images), *graph.shapes[op.output][1:])
        real[op.output] = activated(op, run_op(op, [real[name] for name in op.inputs], shape))
        inputs = stored_inputs(quantized, op, stored)
        if op.name in weights and op.kind in WEIGHTED:
            weights[op.name], made = _corrected(quantized, op, inputs, real[op.output], shape)
        else:
            made = run_op(op, inputs, shape)
        stored[op.output] = stored_output(quantized, op, activated(op, made))
        for name in op.inputs:
            if last[name] == at:
                real.pop(name, None)
                stored.pop(name, None)
        progress("correct biases", at + 1, len(graph.ops))
    return replace(quantized, weights=weights)


def stored_inputs(quantized: QuantizedGraph, op: Op, values: Mapping[str, Any]) -> list[Any]:
    """What `op` reads of `values`: an integer op reads what a float or a wider one wrote through its own bits."""
    if quantized.is_float(op):
        return [values[name] for name in op.inputs]
    finer = quantized.float_outputs if quantized.is_wide(op) else quantized.float_outputs | quantized.wide_outputs
    params = quantized.params(op)
    return [as_stored(values[name], params[name]) if name in finer else values[name] for name in op.inputs]


def stored_output(quantized: QuantizedGraph, op: Op, values: Any) -> Any:
    """What `op` leaves of its result."""
    return values if quantized.is_float(op) else as_stored(values, quantized.params(op)[op.output])


def as_stored(x: Any, params: ActivationParams) -> Any:
    """The real values that `x` has once it went through the levels of `params`."""
    import tensorflow as tf

    integers = tf.clip_by_value(tf.round(x / params.scale) + params.zero_point, *params.limits)
    return (integers - params.zero_point) * params.scale


def real_weights(op: Op, weights: QuantizedWeights) -> Op:
    """The op with the real values that its integers stand for, without its bias."""
    scales = weights.scales
    shaped = scales.reshape(weights.kernel.shape[2:]) if op.kind == "depthwise" else scales
    return replace(op, kernel=weights.kernel.astype(np.float32) * shaped, bias=np.zeros(scales.size, np.float32))


def _corrected(
    quantized: QuantizedGraph, op: Op, inputs: list[Any], wanted: Any, shape: tuple[int, ...]
) -> tuple[QuantizedWeights, Any]:
    """The op's weights with a corrected bias, and its result before the activation."""
    import tensorflow as tf

    weights = quantized.weights[op.name]
    params = quantized.params(op)
    low, high = params[op.output].range
    made = run_op(real_weights(op, weights), inputs, shape)
    bias = op.weights()[1].astype(np.float64)

    def means(values: Any) -> Doubles:
        """What the next op sees, averaged over each image: (N, C)."""
        seen = tf.clip_by_value(values, low, high)
        averaged = tf.reduce_mean(tf.reshape(seen, (shape[0], -1, shape[-1])), 1)
        return np.asarray(averaged, np.float64)

    target = means(wanted)
    for _ in range(ROUNDS):
        bias = bias + _shrunk(target - means(activated(op, made + bias.astype(np.float32))))
    integers = quantize_bias(bias.astype(np.float32), params[op.inputs[0]].scale, weights.scales)
    return replace(weights, bias=integers), made + bias.astype(np.float32)


def _shrunk(errors: Doubles) -> Doubles:
    """The mean of each column (images, channels), drawn towards 0 by as much of its square as is chance.

    The squared standard error is what the squared mean has too much in expectation.
    """
    mean = errors.mean(0)
    chance = errors.var(0) / max(len(errors) - 1, 1)
    square = mean**2
    shrunk: Doubles = mean * (1.0 - np.divide(chance, square, out=np.ones_like(mean), where=square > chance))
    return shrunk
