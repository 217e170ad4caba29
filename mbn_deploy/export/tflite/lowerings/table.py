"""The table of lowerings: which function writes each kind of op."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mbn_deploy.export.tflite.graph_writer import GraphWriter
from mbn_deploy.export.tflite.lowerings import elementwise, reductions, shapes, windows
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
    "relu": elementwise.lower_unary("RELU"),
    "relu6": elementwise.lower_unary("RELU6"),
    "sigmoid": elementwise.lower_unary("LOGISTIC"),
    "hard_swish": elementwise.lower_unary("HARD_SWISH"),
    "hard_sigmoid": elementwise.lower_hard_sigmoid,
    "softmax": reductions.lower_softmax,
    "global_average_pool": reductions.lower_global_pool("MEAN"),
    "global_max_pool": reductions.lower_global_pool("REDUCE_MAX"),
    "reshape": shapes.lower_reshape,
    "pad": shapes.lower_pad,
}
