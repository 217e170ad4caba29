"""Empirical bias correction: rounded weights and activations shift a channel's mean, and its bias takes that back.

Every op runs in float on float inputs and in integers on what the integers before it really gave, so
a correction knows of those before it (arXiv 1906.04721, section 4.2, with images instead of BatchNorm
statistics). Compared are the values that the next op sees, behind the activation and the saturation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import ActivationParams, QuantizedGraph, QuantizedWeights
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.integers import quantize_bias

ROUNDS = 3  # saturation makes the mean bend with the bias; each round leaves a fraction of the shift
PART = 8  # images that an op runs on at a time: what it makes on its way is small beside what is kept of all
Values = dict[str, Floats]  # by tensor, of one part of the images


def correct_biases(quantized: QuantizedGraph, images: Floats, progress: Progress = silent) -> QuantizedGraph:
    """`quantized` with other biases, so that channel means on `images` (N, H, W, C) are those in float."""
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
            inputs = _taken(values, op, done)
            values[op.output] = _array(activated(op, _run(graph, op, [inputs[name] for name in op.inputs])))
        corrected = op.name in weights and op.kind in WEIGHTED
        run = real_weights(op, weights[op.name]) if corrected else op
        for values in stored:
            values[op.output] = _array(_run(graph, run, stored_inputs(quantized, op, _taken(values, op, done))))
        if corrected:
            weights[op.name] = _corrected(quantized, op, stored, real)
        for values in stored:
            values[op.output] = _array(stored_output(quantized, op, activated(op, values[op.output])))
        progress("correct biases", at + 1, len(graph.ops))
    return replace(quantized, weights=weights)


def _taken(values: Values, op: Op, done: set[str]) -> Values:
    """What `op` reads of `values`, which lose those that are `done`."""
    return {name: values.pop(name) if name in done else values[name] for name in dict.fromkeys(op.inputs)}


def _run(graph: Graph, op: Op, inputs: list[Any]) -> Any:
    """The op's result before its activation, on so many images as `inputs` are of."""
    return run_op(op, inputs, (len(inputs[0]), *graph.shapes[op.output][1:]))


def _array(tensor: Any) -> Floats:
    """A copy in memory that is given back: TensorFlow keeps for itself what a tensor once had."""
    return np.array(tensor, np.float32)


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


def _corrected(quantized: QuantizedGraph, op: Op, stored: list[Values], real: list[Values]) -> QuantizedWeights:
    """The op's weights with a bias that gives its result in `stored`, which lacks one, the means of that in `real`.

    The result in `stored` gets it, too.
    """
    weights, params = quantized.weights[op.name], quantized.params(op)
    span = params[op.output].range
    target = _means((values[op.output] for values in real), span)
    bias = op.weights()[1].astype(np.float64)
    for _ in range(ROUNDS):
        shift = bias.astype(np.float32)
        seen = _means((activated(op, values[op.output] + shift) for values in stored), span)
        bias = bias + _shrunk(target - seen)
    for values in stored:
        values[op.output] += bias.astype(np.float32)
    return replace(weights, bias=quantize_bias(bias.astype(np.float32), params[op.inputs[0]].scale, weights.scales))


def _means(parts: Iterable[Any], span: tuple[float, float]) -> Doubles:
    """What the next op sees of each part (n, ..., C), within `span`, averaged over each image: (N, C)."""
    import tensorflow as tf

    seen = (tf.clip_by_value(values, *span) for values in parts)
    return np.concatenate([tf.reduce_mean(tf.reshape(x, (len(x), -1, x.shape[-1])), 1) for x in seen], dtype=np.float64)


def _shrunk(errors: Doubles) -> Doubles:
    """The mean of each column (images, channels), drawn towards 0 by as much of its square as is chance.

    The squared standard error is what the squared mean has too much in expectation.
    """
    mean = errors.mean(0)
    chance = errors.var(0) / max(len(errors) - 1, 1)
    square = mean**2
    shrunk: Doubles = mean * (1.0 - np.divide(chance, square, out=np.ones_like(mean), where=square > chance))
    return shrunk
