"""The tables of lowerings: which function writes each kind of op, computed in float and in integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mbn_deploy.export.onnx.lowerings import elementwise, integers, reductions, shapes, windows
from mbn_deploy.export.onnx.lowerings.functions import FUNCTIONS
from mbn_deploy.graph.graph import Op, OpKind
from mbn_deploy.graph.quantized import FLOAT_ONLY

Lowering = Callable[[Any, Op], None]

FLOAT_LOWERINGS: Mapping[OpKind, Lowering] = {
    "conv": windows.lower_conv,
    "depthwise": windows.lower_depthwise,
    "dense": windows.lower_dense,
    "average_pool": windows.lower_pool("AveragePool", count_include_pad=0),
    "max_pool": windows.lower_pool("MaxPool"),
    "add": elementwise.lower_to("Add"),
    "add_constant": elementwise.lower_with_offset("Add"),
    "bound": elementwise.lower_with_offset("Min"),
    "multiply": elementwise.lower_to("Mul"),
    "maximum": elementwise.lower_to("Max"),
    "minimum": elementwise.lower_to("Min"),
    "concat": elementwise.lower_concat,
    "relu": elementwise.lower_relu,
    "relu6": elementwise.lower_relu,
    "hard_swish": elementwise.lower_to("HardSwish"),
    "hard_sigmoid": elementwise.lower_to("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sigmoid": elementwise.lower_to("Sigmoid"),
    "clip": elementwise.lower_clip,
    "leaky_relu": elementwise.lower_leaky_relu,
    "prelu": elementwise.lower_prelu,
    "elu": elementwise.lower_to("Elu"),
    "gelu": elementwise.lower_gelu,
    "gelu_tanh": elementwise.lower_gelu_tanh,
    "tanh": elementwise.lower_to("Tanh"),
    "softplus": elementwise.lower_to("Softplus"),
    "softsign": elementwise.lower_to("Softsign"),
    "mish": elementwise.lower_mish,
    "threshold": elementwise.lower_threshold,
    "softmax": reductions.lower_softmax("Softmax"),
    "log_softmax": reductions.lower_softmax("LogSoftmax"),
    "global_average_pool": reductions.lower_global_pool("GlobalAveragePool"),
    "global_max_pool": reductions.lower_global_pool("GlobalMaxPool"),
    "reshape": shapes.lower_reshape,
    "pad": shapes.lower_pad,
    "slice": shapes.lower_slice,
    "resize": shapes.lower_resize,
    "transpose": shapes.lower_transpose,
    "channel_max": reductions.lower_channel_max,
    "normalize": reductions.lower_normalize,
    "l2_normalize": reductions.lower_l2_normalize,
}

# Integer ops are written like float ones, unless ONNX Runtime has no integer kernel for that form.
INTEGER_LOWERINGS: Mapping[OpKind, Lowering] = {
    **{kind: lower for kind, lower in FLOAT_LOWERINGS.items() if kind not in {"hard_sigmoid", *FLOAT_ONLY}},
    "hard_swish": integers.lower_hard_swish,
    "pad": integers.lower_pad,
    "global_max_pool": integers.lower_global_max_pool,
    "maximum": integers.lower_comparison("Max"),
    "minimum": integers.lower_comparison("Min"),
    "clip": integers.lower_clip,
    "prelu": integers.lower_prelu,
    **dict.fromkeys(FUNCTIONS, integers.lower_lookup),
    "channel_max": integers.lower_channel_max,
    "slice": integers.lower_slice,
    "transpose": integers.lower_transpose,
}
