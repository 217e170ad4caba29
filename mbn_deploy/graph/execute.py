"""Float graphs run by plain TensorFlow operations: the reference that file writers and int8 corrections compare with.

`_KERNELS` has one row for each kind of op, `_FUNCTIONS` one for each function of a single tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.graph import Graph, Op, OpKind, Shape

Kernel = Callable[[Op, Sequence[Any], Shape], Any]  # op, input tensors, shape of the output (batch axis included)


def run_graph(graph: Graph, x: Any) -> dict[str, Floats]:
    """Compute every tensor of `graph` for the input `x` (N, H, W, C); return them by name."""
    import tensorflow as tf

    values: dict[str, Any] = {graph.input: tf.constant(np.asarray(x, np.float32))}
    for op in graph.ops:
        shape = (len(x), *graph.shapes[op.output][1:])
        values[op.output] = activated(op, run_op(op, [values[name] for name in op.inputs], shape))
    return {name: value.numpy() for name, value in values.items()}


def run_op(op: Op, inputs: Sequence[Any], shape: Shape) -> Any:
    """Compute `op` without its activation; return a TensorFlow tensor of `shape` (batch axis included)."""
    result = _KERNELS[op.kind](op, inputs, shape)
    return result + op.bias if op.bias is not None else result


def activated(op: Op, x: Any) -> Any:
    """Apply the activation of `op` to `x`."""
    return x if op.activation == "none" else _FUNCTIONS[op.activation](_tf(), x)


def _tf() -> Any:
    """Import TensorFlow only when something is computed: it takes seconds."""
    import tensorflow as tf

    return tf


def _constant(values: Doubles | None) -> Any:
    """Return a constant of an op as a float32 tensor."""
    if values is None:
        raise ValueError("an op lacks its constant")
    return _tf().cast(values, _tf().float32)


def _padded(op: Op, x: Any, value: float = 0.0) -> Any:
    if not any(op.pads):
        return x
    top, bottom, left, right = op.pads
    return _tf().pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _conv(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    return _tf().nn.conv2d(_padded(op, inputs[0]), op.kernel, op.stride, "VALID", dilations=op.dilation)


def _depthwise(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    """Convolve each channel by itself; TensorFlow's kernel wants equal strides, so unequal ones skip results."""
    x = _padded(op, inputs[0])
    vertical, horizontal = op.stride
    equal = vertical == horizontal
    strides = (1, *op.stride, 1) if equal else (1, 1, 1, 1)
    result = _tf().nn.depthwise_conv2d(x, op.kernel, strides, "VALID", dilations=op.dilation)
    return result if equal else result[:, ::vertical, ::horizontal]


def _max_pool(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    return _tf().nn.max_pool2d(_padded(op, inputs[0], -np.inf), op.window, op.stride, "VALID")


def _average_pool(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    """Average without counting the padding."""
    x, average = inputs[0], _tf().nn.avg_pool2d
    total = average(_padded(op, x), op.window, op.stride, "VALID")
    share = average(_padded(op, _tf().ones_like(x)), op.window, op.stride, "VALID")
    return total / share


def _prelu(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    positive, negative = _tf().nn.relu(inputs[0]), _tf().nn.relu(-inputs[0])
    return positive - _constant(op.slopes()) * negative


def _clip(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    return _tf().clip_by_value(inputs[0], op.low, op.high)


def _threshold(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    return _tf().where(inputs[0] > op.low, inputs[0], 0.0)


def _slice(op: Op, inputs: Sequence[Any], shape: Shape) -> Any:
    sizes = zip(op.starts, op.steps, shape[1:], strict=True)
    return inputs[0][(slice(None), *(slice_of(start, step, size) for start, step, size in sizes))]


def slice_of(start: int, step: int, size: int) -> slice:
    """Return the slice that takes `size` values from `start` on; with a negative step it may end at the first value."""
    stop = start + step * size
    return slice(start, None if stop < 0 else stop, step)


def _resize(op: Op, inputs: Sequence[Any], shape: Shape) -> Any:
    return _tf().image.resize(inputs[0], shape[1:3], method=op.interpolation)


def _normalize(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    mean, variance = _tf().nn.moments(inputs[0], -1, keepdims=True)
    return (inputs[0] - mean) * _tf().math.rsqrt(variance + op.epsilon)


def _l2_normalize(op: Op, inputs: Sequence[Any], _: Shape) -> Any:
    norm = _tf().sqrt(_tf().reduce_sum(_tf().square(inputs[0]), -1, keepdims=True))
    return inputs[0] / _tf().maximum(norm, op.epsilon)


def _elementwise(name: str) -> Kernel:
    return lambda _op, inputs, _shape: _FUNCTIONS[name](_tf(), inputs[0])


_FUNCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "relu": lambda tf, x: tf.nn.relu(x),
    "relu6": lambda tf, x: tf.nn.relu6(x),
    "unit": lambda tf, x: tf.clip_by_value(x, 0.0, 1.0),
    "hard_sigmoid": lambda tf, x: tf.nn.relu6(x + 3.0) / 6.0,
    "hard_swish": lambda tf, x: x * tf.nn.relu6(x + 3.0) / 6.0,
    "sigmoid": lambda tf, x: tf.nn.sigmoid(x),
    "softmax": lambda tf, x: tf.nn.softmax(x),
    "elu": lambda tf, x: tf.nn.elu(x),
    "gelu": lambda tf, x: tf.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda tf, x: tf.nn.gelu(x, approximate=True),
    "tanh": lambda tf, x: tf.nn.tanh(x),
    "softplus": lambda tf, x: tf.nn.softplus(x),
    "softsign": lambda tf, x: tf.nn.softsign(x),
    "mish": lambda tf, x: x * tf.nn.tanh(tf.nn.softplus(x)),
    "log_softmax": lambda tf, x: tf.nn.log_softmax(x),
}

_KERNELS: Mapping[OpKind, Kernel] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "dense": lambda op, inputs, _: _tf().matmul(inputs[0], op.kernel),
    "add": lambda _op, inputs, _: inputs[0] + inputs[1],
    "add_constant": lambda op, inputs, _: inputs[0] + _constant(op.offset),
    "bound": lambda op, inputs, _: _tf().minimum(inputs[0], _constant(op.offset)),
    "multiply": lambda _op, inputs, _: inputs[0] * inputs[1],
    "maximum": lambda _op, inputs, _: _tf().maximum(inputs[0], inputs[1]),
    "minimum": lambda _op, inputs, _: _tf().minimum(inputs[0], inputs[1]),
    "concat": lambda op, inputs, _: _tf().concat(list(inputs), op.axis),
    "relu": _elementwise("relu"),
    "relu6": _elementwise("relu6"),
    "hard_sigmoid": _elementwise("hard_sigmoid"),
    "hard_swish": _elementwise("hard_swish"),
    "sigmoid": _elementwise("sigmoid"),
    "softmax": _elementwise("softmax"),
    "clip": _clip,
    "leaky_relu": _prelu,
    "prelu": _prelu,
    "elu": _elementwise("elu"),
    "gelu": _elementwise("gelu"),
    "gelu_tanh": _elementwise("gelu_tanh"),
    "tanh": _elementwise("tanh"),
    "softplus": _elementwise("softplus"),
    "softsign": _elementwise("softsign"),
    "mish": _elementwise("mish"),
    "threshold": _threshold,
    "log_softmax": _elementwise("log_softmax"),
    "global_average_pool": lambda op, inputs, _: _tf().reduce_mean(inputs[0], (1, 2), keepdims=op.keepdims),
    "global_max_pool": lambda op, inputs, _: _tf().reduce_max(inputs[0], (1, 2), keepdims=op.keepdims),
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "reshape": lambda _op, inputs, shape: _tf().reshape(inputs[0], shape),
    "pad": lambda op, inputs, _: _padded(op, inputs[0]),
    "slice": _slice,
    "resize": _resize,
    "transpose": lambda op, inputs, _: _tf().transpose(inputs[0], op.permutation),
    "channel_max": lambda _op, inputs, _: _tf().reduce_max(inputs[0], -1, keepdims=True),
    "normalize": _normalize,
    "l2_normalize": _l2_normalize,
    "channel_map": lambda op, inputs, _: _tf().nn.conv2d(inputs[0], op.kernel, 1, "VALID"),
    "affine": lambda op, inputs, _: inputs[0] * _constant(op.scale) + _constant(op.offset),
}
