"""Empirical bias correction: rounding shifts the mean of a channel, and a correction of its bias shifts it back.

Every op runs in float on float inputs, and quantized on the results of the quantized ops before it, so that a
correction takes earlier ones into account (arXiv 1906.04721, section 4.2, with images instead of BatchNorm
statistics). The means are those of the values that the next op reads, after activation and saturation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import QuantizedGraph, QuantizedWeights, QuantParams
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.integers import quantize_bias

# Saturation makes the mean a nonlinear function of the bias; each round leaves a fraction of the shift.
ROUNDS = 3
# Images that an op runs on at once. Its temporary values are then small beside the tensors that are kept of all images.
PART = 8
# Biases are corrected on as many images as keep the largest tensor below this size; more images change little.
IMAGE_BYTES = 2**28
MIN_IMAGES = 8
Values = dict[str, Floats]  # tensors by name, for one part of the images


def bias_image_count(graph: Graph) -> int:
    """Return on how many images the biases of `graph` (batch 1) are corrected."""
    largest = max(4 * int(np.prod(shape[1:])) for shape in graph.shapes.values())
    return max(MIN_IMAGES, IMAGE_BYTES // largest)


def correct_biases(quantized: QuantizedGraph, images: Floats, progress: Progress = silent) -> QuantizedGraph:
    """Change biases so that the channel means on `images` (N, H, W, C) equal those of the float graph."""
    graph = quantized.graph
    weights = dict(quantized.weights)
    parts = [images[at : at + PART] for at in range(0, len(images), PART)]
    real: list[Values] = [{graph.input: part} for part in parts]
    stored: list[Values] = [
        {graph.input: _array(as_stored(part, quantized.activations[graph.input]))} for part in parts
    ]
    last = {name: at for at, op in enumerate(graph.ops) for name in op.inputs}
    for at, op in enumerate(graph.ops):
        done = {name for name in op.inputs if last[name] == at}
        for values in real:
            inputs = _take_inputs(values, op, done)
            values[op.output] = _array(activated(op, _run(graph, op, [inputs[name] for name in op.inputs])))
        corrected = op.name in weights and op.kind in WEIGHTED
        run = real_weights(op, weights[op.name]) if corrected else op
        for values in stored:
            values[op.output] = _array(_run(graph, run, stored_inputs(quantized, op, _take_inputs(values, op, done))))
        if corrected:
            weights[op.name] = _corrected(quantized, op, stored, real)
        for values in stored:
            values[op.output] = _array(stored_output(quantized, op, activated(op, values[op.output])))
        progress("correct biases", at + 1, len(graph.ops))
    return replace(quantized, weights=weights)


def _take_inputs(values: Values, op: Op, done: set[str]) -> Values:
    """Return the inputs of `op`, and delete those that are `done` from `values`."""
    return {name: values.pop(name) if name in done else values[name] for name in dict.fromkeys(op.inputs)}


def _run(graph: Graph, op: Op, inputs: list[Any]) -> Any:
    """Run the op without its activation on as many images as `inputs` have."""
    return run_op(op, inputs, (len(inputs[0]), *graph.shapes[op.output][1:]))


def _array(tensor: Any) -> Floats:
    """Copy a tensor to numpy, whose memory is freed again; TensorFlow keeps the memory of its tensors."""
    return np.array(tensor, np.float32)


def stored_inputs(quantized: QuantizedGraph, op: Op, values: Mapping[str, Any]) -> list[Any]:
    """Return the inputs of `op`, quantized where the op reads a tensor in fewer bits than it was written in."""
    if quantized.is_float(op):
        return [values[name] for name in op.inputs]
    finer = quantized.float_outputs if quantized.is_int16(op) else quantized.float_outputs | quantized.int16_outputs
    params = quantized.params(op)
    return [as_stored(values[name], params[name]) if name in finer else values[name] for name in op.inputs]


def stored_output(quantized: QuantizedGraph, op: Op, values: Any) -> Any:
    """Return the result `values` of `op` as the quantized graph stores it."""
    return values if quantized.is_float(op) else as_stored(values, quantized.params(op)[op.output])


def as_stored(x: Any, params: QuantParams) -> Any:
    """Quantize the tensor `x` by `params` and return the real values that the integers stand for."""
    import tensorflow as tf

    integers = tf.clip_by_value(tf.round(x / params.scale) + params.zero_point, *params.limits)
    return (integers - params.zero_point) * params.scale


def real_weights(op: Op, weights: QuantizedWeights) -> Op:
    """Return the op with the real values of its quantized kernel and a bias of zeros."""
    scales = weights.scales
    shaped = scales.reshape(weights.kernel.shape[2:]) if op.kind == "depthwise" else scales
    return replace(op, kernel=weights.kernel.astype(np.float32) * shaped, bias=np.zeros(scales.size, np.float32))


def _corrected(quantized: QuantizedGraph, op: Op, stored: list[Values], real: list[Values]) -> QuantizedWeights:
    """Return the op's weights with a bias that makes the means of its result in `stored` equal to those in `real`.

    The result in `stored` was computed without a bias; the new one is added to it.
    """
    weights, params = quantized.weights[op.name], quantized.params(op)
    span = params[op.output].range
    target = _means((values[op.output] for values in real), span)
    bias = op.weights()[1].astype(np.float64)
    for _ in range(ROUNDS):
        shift = bias.astype(np.float32)
        seen = _means((activated(op, values[op.output] + shift) for values in stored), span)
        bias = bias + shrunk_mean(target - seen)
    for values in stored:
        values[op.output] += bias.astype(np.float32)
    return replace(weights, bias=quantize_bias(bias.astype(np.float32), params[op.inputs[0]].scale, weights.scales))


def _means(parts: Iterable[Any], span: tuple[float, float]) -> Doubles:
    """Clip each part (n, ..., C) to `span` and average over the positions of each image; return (N, C)."""
    import tensorflow as tf

    seen = (tf.clip_by_value(values, *span) for values in parts)
    return np.concatenate([tf.reduce_mean(tf.reshape(x, (len(x), -1, x.shape[-1])), 1) for x in seen], dtype=np.float64)


def shrunk_mean(errors: Doubles) -> Doubles:
    """Return the mean of `errors` (images, channels) over images, shrunk towards 0 by its share of sampling noise.

    The expectation of the squared mean is the square of the true mean plus the squared standard error.
    """
    mean = errors.mean(0)
    chance = errors.var(0) / max(len(errors) - 1, 1)
    square = mean**2
    shrunk: Doubles = mean * (1.0 - np.divide(chance, square, out=np.ones_like(mean), where=square > chance))
    return shrunk
