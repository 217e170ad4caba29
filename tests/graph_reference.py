"""Executes a float `Graph` by plain TensorFlow operations: what every emitter is compared with."""

import numpy as np
import tensorflow as tf

_UNARY = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "hard_sigmoid": lambda x: tf.nn.relu6(x + 3.0) / 6.0,
    "hard_swish": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
    "sigmoid": tf.nn.sigmoid,
    "softmax": tf.nn.softmax,
}


def run_graph(graph, x):
    """Every tensor of `graph` by name for the input `x` (N, H, W, C)."""
    values = {graph.input: tf.constant(np.asarray(x, np.float32))}
    for op in graph.ops:
        result = _run(op, [values[name] for name in op.inputs], graph.shapes[op.output])
        assert tuple(result.shape) == tuple(graph.shapes[op.output]), (op.name, result.shape, graph.shapes[op.output])
        values[op.output] = _activation(op.activation, result)
    return {name: value.numpy() for name, value in values.items()}


def _activation(kind, x):
    return x if kind == "none" else _UNARY[kind](x)


def _run(op, inputs, shape):
    x = inputs[0]
    if op.kind in _UNARY:
        return _UNARY[op.kind](x)
    if op.kind in ("conv", "depthwise", "dense"):
        return _weighted(op, x) + (0.0 if op.bias is None else op.bias)
    if op.kind in ("average_pool", "max_pool"):
        return _pool(op, x)
    match op.kind:
        case "add":
            assert inputs[0].shape == inputs[1].shape
            return inputs[0] + inputs[1]
        case "multiply":
            return inputs[0] * inputs[1]
        case "global_average_pool":
            return tf.reduce_mean(x, (1, 2), keepdims=op.keepdims)
        case "global_max_pool":
            return tf.reduce_max(x, (1, 2), keepdims=op.keepdims)
        case "reshape":
            return tf.reshape(x, shape)
        case "pad":
            return _padded(op, x)
        case "affine":
            return x * tf.cast(op.scale, tf.float32) + tf.cast(op.offset, tf.float32)
    raise AssertionError(op.kind)


def _padded(op, x, value=0.0):
    top, bottom, left, right = op.pads
    return tf.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _weighted(op, x):
    if op.kind == "dense":
        return tf.matmul(x, op.kernel)
    x = _padded(op, x)
    if op.kind == "conv":
        return tf.nn.conv2d(x, op.kernel, op.stride, "VALID", dilations=op.dilation)
    if op.stride[0] == op.stride[1]:  # TensorFlow's depthwise convolution wants square strides
        return tf.nn.depthwise_conv2d(x, op.kernel, (1, *op.stride, 1), "VALID", dilations=op.dilation)
    full = tf.nn.depthwise_conv2d(x, op.kernel, (1, 1, 1, 1), "VALID", dilations=op.dilation)
    return full[:, :: op.stride[0], :: op.stride[1]]


def _pool(op, x):
    if op.kind == "max_pool":
        return tf.nn.max_pool2d(_padded(op, x, -np.inf), op.window, op.stride, "VALID")
    area = np.prod(op.window)
    total = tf.nn.avg_pool2d(_padded(op, x), op.window, op.stride, "VALID") * area
    count = tf.nn.avg_pool2d(_padded(op, tf.ones_like(x)), op.window, op.stride, "VALID") * area
    return total / count
