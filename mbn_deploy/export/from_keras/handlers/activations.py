"""Activation functions: inside other layers, as layers of their own, and as operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor, constant
from mbn_deploy.graph.graph import OpKind

Activation = Callable[[GraphBuilder, Call, Tensor, str], Tensor]  # builder, call, input, name of the result
_OBJECT = "object"  # stands for a layer that is given as another layer's activation
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # arXiv 1706.02515, section 3


def activation_name(call: Call, function: Any) -> str:
    """Return the name in `keras.activations` of a supported function, `object` for a layer; refuse all others."""
    if function is None:
        return "linear"
    if type(function).__name__ in _OF_OBJECT and type(function).__module__.startswith("keras."):
        return _OBJECT
    for name in _ACTIVATIONS:
        if _is_called(function, name):
            return name
    what = getattr(function, "__name__", type(function).__name__)
    raise call.refuse(f"its activation {what!r} is none of {', '.join(_ACTIVATIONS)}")


def _is_called(function: Any, name: str) -> bool:
    """Tell whether `function` is that of `keras.activations`, or one of Keras' or TensorFlow's operations like it."""
    import keras

    if function is getattr(keras.activations, name):
        return True
    if function is getattr(keras.ops, name, None):
        return name != "gelu"  # whose operation is approximate unless told otherwise
    own = getattr(function, "__name__", "")
    of_tensorflow = str(getattr(function, "__module__", "")).startswith("tensorflow.python.")
    return of_tensorflow and name == {"swish": "silu"}.get(own, own)


def activate(build: GraphBuilder, call: Call, x: Tensor, name: str, output: str) -> Tensor:
    """Append the activation called `name` in `keras.activations`; the result is called `output`."""
    return (
        _of_object(call.operation.activation)(build, call, x, output)
        if name == _OBJECT
        else _ACTIVATIONS[name](build, call, x, output)
    )


def _of_object(operation: Any) -> Activation:
    """Return the function of an activation layer or operation, with its settings."""
    return _OF_OBJECT[type(operation).__name__](operation)


def activation_layer(build: GraphBuilder, call: Call) -> Tensor:
    """Append an Activation layer."""
    return activate(build, call, call.one(), activation_name(call, call.operation.activation), call.name)


def activation(name: str) -> Handler:
    """Return the handler of an operation that is the activation `name`."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        return activate(build, call, call.one(), name, call.name)

    return handler


def with_settings(build: GraphBuilder, call: Call) -> Tensor:
    """Append an activation, layer or operation, that has settings, as ReLU and LeakyReLU have."""
    return _of_object(call.operation)(build, call, call.one(), call.name)


def clip(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.clip`; either bound may be missing."""
    low, high = (_number(call, value) for value in (call.operation.x_min, call.operation.x_max))
    return clipped(build, call.one(), call.name, low=-math.inf if low is None else low, high=high)


def _number(call: Call, value: Any) -> float | None:
    if value is None:
        return None
    if np.size(value) != 1:
        raise call.refuse("it clips to bounds that differ by channel")
    return float(constant(value).reshape(()))


def clipped(
    build: GraphBuilder, x: Tensor, output: str, *, low: float = -math.inf, high: float | None = None
) -> Tensor:
    """Append the clip to [low, high], where None is no bound: a ReLU or ReLU6 where it is one."""
    most = math.inf if high is None else high
    if low == 0 and most in (6.0, math.inf):
        kind: OpKind = "relu6" if most == 6 else "relu"
        return build.elementwise(kind, _op_name(build, output, kind), x, output)
    return _emit(build, "clip", x, output, low=low, high=most)


def _relu(
    build: GraphBuilder,
    call: Call,
    x: Tensor,
    output: str,
    *,
    max_value: float | None,
    slope: float,
    threshold: float,
) -> Tensor:
    """Append what Keras calls a ReLU: bounded, with a slope below the threshold, zero between that and 0."""
    if max_value is not None and max_value <= 0:
        raise call.refuse(f"its max_value is {max_value}")
    if not threshold and not slope:
        return clipped(build, x, output, low=0.0, high=max_value)
    if not threshold:
        if max_value is None:
            return _leaky(build, x, output, slope)
        if slope < 0:
            raise call.refuse(f"negative_slope={slope} with max_value={max_value}")
        return clipped(build, _leaky(build, x, f"{output}/leaky", slope), output, high=max_value)
    above = _emit(build, "threshold", x, f"{output}/above" if slope or max_value else output, low=threshold)
    if max_value is not None:
        above = clipped(build, above, f"{output}/clipped" if slope else output, low=0.0, high=max_value)
    if not slope:
        return above
    distance = build.affine(replace(call, name=f"{output}/distance"), x, -1.0, threshold)
    below = _scaled(build, call, clipped(build, distance, f"{output}/below", low=0.0), f"{output}/slope", -slope)
    return _emit(build, "add", (above, below), output)


def _leaky(build: GraphBuilder, x: Tensor, output: str, slope: float) -> Tensor:
    if slope == 0:
        return clipped(build, x, output, low=0.0)
    return _emit(build, "leaky_relu", x, output, scale=np.array([slope], np.float64))


def _prelu(build: GraphBuilder, call: Call, x: Tensor, output: str, *, alpha: Any) -> Tensor:
    """Append a PReLU; slopes are one number, one a channel, or one a value of an image."""
    if alpha is None:
        raise call.refuse("its PReLU has no weights yet; make it a layer of its own")
    slopes = constant(alpha)
    if not np.isfinite(slopes).all():
        raise call.refuse("its weights (alpha) have values that are not finite numbers")
    if np.ptp(slopes) == 0:
        return _leaky(build, x, output, float(slopes.flat[0]))
    channels = np.broadcast_to(slopes, x.shape[1:])
    if slopes.size == slopes.shape[-1] or (channels == channels.reshape(-1, x.shape[-1])[0]).all():
        channels = channels.reshape(-1, x.shape[-1])[0]
    return _emit(build, "prelu", x, output, scale=channels.copy())


def _elu(build: GraphBuilder, call: Call, x: Tensor, output: str, *, alpha: float, scale: float = 1.0) -> Tensor:
    """Append scale * (x above 0, alpha * (e^x - 1) below): graphs have the function with both of them 1."""
    if alpha == 1 and scale == 1:
        return _emit(build, "elu", x, output)
    below = _emit(build, "elu", clipped(build, x, f"{output}/below", high=0.0), f"{output}/elu")
    above = clipped(build, x, f"{output}/above", low=0.0)
    if scale != 1:
        above = _scaled(build, call, above, f"{output}/above/scaled", scale)
    return _emit(build, "add", (above, _scaled(build, call, below, f"{output}/elu/scaled", scale * alpha)), output)


def _celu(build: GraphBuilder, call: Call, x: Tensor, output: str, *, alpha: float) -> Tensor:
    """Append alpha * elu(x / alpha)."""
    if alpha == 1:
        return _emit(build, "elu", x, output)
    inner = _emit(build, "elu", _scaled(build, call, x, f"{output}/inner", 1 / alpha), f"{output}/elu")
    return _scaled(build, call, inner, output, alpha)


def _log_sigmoid(build: GraphBuilder, call: Call, x: Tensor, output: str) -> Tensor:
    """Append -softplus(-x)."""
    negative = _scaled(build, call, x, f"{output}/negative", -1.0)
    return _scaled(build, call, _emit(build, "softplus", negative, f"{output}/softplus"), output, -1.0)


def _chain(build: GraphBuilder, call: Call, x: Tensor, output: str, *, layers: Sequence[Any]) -> Tensor:
    """Append a Sequential that is given as an activation: rescaling and activation layers."""
    for at, layer in enumerate(layers, 1):
        name, kind = output if at == len(layers) else f"{output}/{layer.name}", type(layer).__name__
        if kind == "Rescaling":
            x = build.affine(replace(call, name=name), x, constant(layer.scale), constant(layer.offset))
        elif kind in _OF_OBJECT:
            x = _of_object(layer)(build, call, x, name)
        else:
            raise call.refuse(f"its activation holds the layer {layer.name!r} ({kind})")
    return x


def _emit(build: GraphBuilder, kind: OpKind, x: Tensor | tuple[Tensor, ...], output: str, **fields: Any) -> Tensor:
    """Append an op that writes `output` in the shape of its first input."""
    inputs = x if isinstance(x, tuple) else (x,)
    return build.emit(kind, _op_name(build, output, kind), inputs, inputs[0].shape, output, **fields)


def _scaled(build: GraphBuilder, call: Call, x: Tensor, output: str, scale: float) -> Tensor:
    """Append x * scale, called `output`."""
    return build.affine(replace(call, name=output), x, scale, 0.0)


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


def _softmax(build: GraphBuilder, call: Call, x: Tensor, output: str, *, kind: OpKind, axis: Any = -1) -> Tensor:
    """Append a softmax or its logarithm; an axis that is not the last one is moved there and back."""
    rank = len(x.shape)
    only = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    if not isinstance(only, int) or not 0 < only % rank < rank:
        raise call.refuse(
            f"softmax over axis {axis} of a tensor of shape {x.shape}; one axis behind the batch is expected"
        )
    if only % rank == rank - 1:
        return _one_op(kind)(build, call, x, output)
    swapped = list(range(rank))
    swapped[only % rank], swapped[-1] = rank - 1, only % rank
    shape = tuple(x.shape[at] for at in swapped)
    moved = build.emit("transpose", f"{output}/moved", (x,), shape, permutation=tuple(swapped))
    result = _one_op(kind)(build, call, moved, f"{output}/softmax")
    return build.emit(
        "transpose", _op_name(build, output, "back"), (result,), x.shape, output, permutation=tuple(swapped)
    )


_ACTIVATIONS: Mapping[str, Activation] = {
    "linear": _linear,
    "relu": _one_op("relu"),
    "relu6": _one_op("relu6"),
    "hard_swish": _one_op("hard_swish"),
    "hard_sigmoid": _one_op("hard_sigmoid"),
    "hard_tanh": lambda build, _call, x, output: clipped(build, x, output, low=-1.0, high=1.0),
    "leaky_relu": lambda build, _call, x, output: _leaky(build, x, output, 0.2),
    "elu": _one_op("elu"),
    "selu": partial(_elu, alpha=_SELU_ALPHA, scale=_SELU_SCALE),
    "celu": _one_op("elu"),
    "gelu": _one_op("gelu"),
    "tanh": _one_op("tanh"),
    "sigmoid": _one_op("sigmoid"),
    "silu": _silu,
    "softplus": _one_op("softplus"),
    "softsign": _one_op("softsign"),
    "mish": _one_op("mish"),
    "log_sigmoid": _log_sigmoid,
    "softmax": partial(_softmax, kind="softmax"),
    "log_softmax": partial(_softmax, kind="log_softmax"),
}

# Layers and operations that have settings, by their class.
_OF_OBJECT: Mapping[str, Callable[[Any], Activation]] = {
    "ReLU": lambda o: partial(_relu, max_value=o.max_value, slope=o.negative_slope, threshold=o.threshold),
    **dict.fromkeys(
        ("LeakyReLU", "LeakyRelu"), lambda o: partial(_relu, max_value=None, slope=o.negative_slope, threshold=0.0)
    ),
    "PReLU": lambda o: partial(_prelu, alpha=getattr(o, "alpha", None)),
    **dict.fromkeys(("ELU", "Elu"), lambda o: partial(_elu, alpha=o.alpha)),
    "Celu": lambda o: partial(_celu, alpha=o.alpha),
    "Gelu": lambda o: _one_op("gelu_tanh" if o.approximate else "gelu"),
    "Softmax": lambda o: partial(_softmax, kind="softmax", axis=o.axis),
    "LogSoftmax": lambda o: partial(_softmax, kind="log_softmax", axis=o.axis),
    "Sequential": lambda o: partial(_chain, layers=o.layers),
    "Activation": lambda o: (
        lambda build, call, x, output: activate(
            build, replace(call, operation=o), x, activation_name(call, o.activation), output
        )
    ),
}
