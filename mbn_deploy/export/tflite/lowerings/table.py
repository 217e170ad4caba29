"""The table of lowerings: which function writes each kind of op."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.export.tflite.lowerings import elementwise, functions, reductions, shapes, windows
from mbn_deploy.graph.graph import Op, OpKind

LOWERINGS: Mapping[OpKind, Callable[[GraphWriter, Op], None]] = {
    "conv": windows.lower_conv,
    "depthwise": windows.lower_depthwise,
    "dense": windows.lower_conv,
    "average_pool": windows.lower_pool("AVERAGE_POOL_2D"),
    "max_pool": windows.lower_pool("MAX_POOL_2D"),
    "add": elementwise.lower_add,
    "add_constant": elementwise.lower_add_constant,
    "multiply": elementwise.lower_multiply,
    "maximum": elementwise.lower_comparison("MAXIMUM"),
    "minimum": elementwise.lower_comparison("MINIMUM"),
    "concat": elementwise.lower_concat,
    "relu": elementwise.lower_unary("RELU"),
    "relu6": elementwise.lower_unary("RELU6"),
    "sigmoid": elementwise.lower_unary("LOGISTIC"),
    "hard_swish": elementwise.lower_unary("HARD_SWISH"),
    "hard_sigmoid": elementwise.lower_hard_sigmoid,
    "clip": functions.lower_clip,
    "leaky_relu": functions.lower_leaky_relu,
    "prelu": functions.lower_prelu,
    "elu": elementwise.lower_unary("ELU"),
    "gelu": functions.lower_gelu(approximate=False),
    "gelu_tanh": functions.lower_gelu(approximate=True),
    "tanh": elementwise.lower_unary("TANH"),
    "softplus": functions.lower_softplus,
    "softsign": functions.lower_softsign,
    "mish": functions.lower_mish,
    "threshold": functions.lower_threshold,
    "log_softmax": reductions.lower_softmax("LOG_SOFTMAX"),
    "softmax": reductions.lower_softmax("SOFTMAX", beta=1.0),
    "global_average_pool": reductions.lower_global_pool("MEAN"),
    "global_max_pool": reductions.lower_global_pool("REDUCE_MAX"),
    "reshape": shapes.lower_reshape,
    "pad": shapes.lower_pad,
    "slice": shapes.lower_slice,
    "resize": shapes.lower_resize,
    "transpose": shapes.lower_transpose,
    "channel_max": reductions.lower_channel_max,
    "normalize": reductions.lower_normalize,
    "l2_normalize": reductions.lower_l2_normalize,
}
