"""Runs float graphs by plain TensorFlow operations: what emitters are compared with and int8 is corrected against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op, Shape


def run_graph(graph: Graph, x: Any) -> dict[str, Floats]:
    """Every tensor of `graph` by name, for the input `x` (N, H, W, C)."""
    import tensorflow as tf

    values: dict[str, Any] = {graph.input: tf.constant(np.asarray(x, np.float32))}
    for op in graph.ops:
        shape = (len(x), *graph.shapes[op.output][1:])
        values[op.output] = activated(op, run_op(op, [values[name] for name in op.inputs], shape))
    return {name: value.numpy() for name, value in values.items()}


def run_op(op: Op, inputs: Sequence[Any], shape: Shape) -> Any:
    """The op's result before its activation, a TensorFlow tensor of `shape` (batch axis included)."""
    import tensorflow as tf

    x = inputs[0]
    if op.kind in WEIGHTED:
        return _weighted(op, x) + (0.0 if op.bias is None else op.bias)
    if op.kind in _FUNCTIONS:
        return _functions()[op.kind](x)
    match op.kind:
        case "add":
            return inputs[0] + inputs[1]
        case "add_constant":
            return x + tf.cast(_given(op.offset), tf.float32)
        case "minimum":
            return tf.minimum(x, tf.cast(_given(op.offset), tf.float32))
        case "multiply":
            return inputs[0] * inputs[1]
        case "global_average_pool":
            return tf.reduce_mean(x, (1, 2), keepdims=op.keepdims)
        case "global_max_pool":
            return tf.reduce_max(x, (1, 2), keepdims=op.keepdims)
        case "average_pool" | "max_pool":
            return _pool(op, x)
        case "reshape":
            return tf.reshape(x, shape)
        case "pad":
            return _padded(op, x)
    return x * tf.cast(_given(op.scale), tf.float32) + tf.cast(_given(op.offset), tf.float32)  # affine


def activated(op: Op, x: Any) -> Any:
    """`x` behind the op's activation."""
    return x if op.activation == "none" else _functions()[op.activation](x)


_FUNCTIONS = frozenset({"relu", "relu6", "hard_sigmoid", "hard_swish", "sigmoid", "softmax"})


def _functions() -> dict[str, Callable[[Any], Any]]:
    import tensorflow as tf

    return {
        "relu": tf.nn.relu,
        "relu6": tf.nn.relu6,
        "unit": lambda x: tf.clip_by_value(x, 0.0, 1.0),
        "hard_sigmoid": lambda x: tf.nn.relu6(x + 3.0) / 6.0,
        "hard_swish": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
        "sigmoid": tf.nn.sigmoid,
        "softmax": tf.nn.softmax,
    }


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("an op lacks its constant")
    return value


def _padded(op: Op, x: Any, value: float = 0.0) -> Any:
    import tensorflow as tf

    top, bottom, left, right = op.pads
    return tf.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value) if any(op.pads) else x


def _weighted(op: Op, x: Any) -> Any:
    import tensorflow as tf

    if op.kind == "dense":
        return tf.matmul(x, op.kernel)
    x = _padded(op, x)
    if op.kind == "conv":
        return tf.nn.conv2d(x, op.kernel, op.stride, "VALID", dilations=op.dilation)
    if op.stride[0] == op.stride[1]:  # TensorFlow's depthwise convolution wants square strides
        return tf.nn.depthwise_conv2d(x, op.kernel, (1, *op.stride, 1), "VALID", dilations=op.dilation)
    full = tf.nn.depthwise_conv2d(x, op.kernel, (1, 1, 1, 1), "VALID", dilations=op.dilation)
    return full[:, :: op.stride[0], :: op.stride[1]]


def _pool(op: Op, x: Any) -> Any:
    """Maximum, or average that does not count padding."""
    import tensorflow as tf

    if op.kind == "max_pool":
        return tf.nn.max_pool2d(_padded(op, x, -np.inf), op.window, op.stride, "VALID")
    total = tf.nn.avg_pool2d(_padded(op, x), op.window, op.stride, "VALID")
    share = tf.nn.avg_pool2d(_padded(op, tf.ones_like(x)), op.window, op.stride, "VALID")
    return total / share
