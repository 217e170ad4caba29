"""Activation functions: inside other layers, as layers of their own, and as operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor
from mbn_deploy.graph.graph import OpKind

Activation = Callable[[GraphBuilder, Call, Tensor, str], Tensor]  # builder, call, input, name of the result


def activation_name(call: Call, function: Any) -> str:
    """Return the name in `keras.activations` of a supported function; refuse all others."""
    import keras

    if function is None:
        return "linear"
    for name in _ACTIVATIONS:
        if function is getattr(keras.activations, name):
            return name
    what = getattr(function, "__name__", type(function).__name__)
    raise call.refuse(f"its activation {what!r} is none of {', '.join(_ACTIVATIONS)}")


def activate(build: GraphBuilder, call: Call, x: Tensor, name: str, output: str) -> Tensor:
    """Append the activation called `name` in `keras.activations`; the result is called `output`."""
    return _ACTIVATIONS[name](build, call, x, output)


def activation_layer(build: GraphBuilder, call: Call) -> Tensor:
    """Append an Activation layer."""
    return activate(build, call, call.one(), activation_name(call, call.operation.activation), call.name)


def activation(name: str) -> Handler:
    """Return the handler of an operation that is the activation `name`."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        return activate(build, call, call.one(), name, call.name)

    return handler


def relu(build: GraphBuilder, call: Call) -> Tensor:
    """Append a ReLU, layer or operation: without a bound, or bounded at 6."""
    operation = call.operation
    max_value, slope, threshold = operation.max_value, operation.negative_slope, operation.threshold
    if slope or threshold or max_value not in (None, 6):
        raise call.refuse(
            f"max_value={max_value}, negative_slope={slope}, threshold={threshold}: "
            "ReLU without a bound and ReLU6 are supported"
        )
    return build.elementwise("relu" if max_value is None else "relu6", call.name, call.one())


def clip(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.clip` to [0, 6], which is ReLU6."""
    low, high = call.operation.x_min, call.operation.x_max
    if low != 0 or high != 6:
        raise call.refuse(f"clipping to [{low}, {high}]; only [0, 6] (ReLU6) is supported")
    return build.elementwise("relu6", call.name, call.one())


def softmax(build: GraphBuilder, call: Call) -> Tensor:
    """Append a softmax, layer or operation, over the last axis."""
    x, axis = call.one(), call.operation.axis
    if axis not in (-1, len(x.shape) - 1):
        raise call.refuse(f"softmax over axis {axis}; only the last one is supported")
    return activate(build, call, x, "softmax", call.name)


def _op_name(build: GraphBuilder, output: str, part: str) -> str:
    """Return the name of an op that writes `output`: the same, unless the layer has an op of that name already."""
    return f"{output}/{part}" if build.has_op(output) else output


def _one_op(kind: OpKind) -> Activation:
    """Return an activation that is one op of the graph."""

    def append(build: GraphBuilder, _: Call, x: Tensor, output: str) -> Tensor:
        return build.elementwise(kind, _op_name(build, output, kind), x, output)

    return append


def _linear(_build: GraphBuilder, _call: Call, x: Tensor, _output: str) -> Tensor:
    return x


def _silu(build: GraphBuilder, _: Call, x: Tensor, output: str) -> Tensor:
    gate = build.elementwise("sigmoid", f"{output}/sigmoid", x)
    return build.emit("multiply", _op_name(build, output, "swish"), (x, gate), x.shape, output)


def _softmax(build: GraphBuilder, call: Call, x: Tensor, output: str) -> Tensor:
    if len(x.shape) not in (2, 4):
        raise call.refuse(f"softmax over a tensor of shape {x.shape}")
    return _one_op("softmax")(build, call, x, output)


_ACTIVATIONS: Mapping[str, Activation] = {
    "linear": _linear,
    "relu": _one_op("relu"),
    "relu6": _one_op("relu6"),
    "hard_swish": _one_op("hard_swish"),
    "hard_sigmoid": _one_op("hard_sigmoid"),
    "sigmoid": _one_op("sigmoid"),
    "silu": _silu,
    "softmax": _softmax,
}
