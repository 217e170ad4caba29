"""Activations, and operations that stand in a Keras model without a layer: `x + 3.0`, `keras.ops.relu(x)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mbn_deploy.export.from_keras.builder import Builder, Call, Handler, Tensor, constant
from mbn_deploy.graph.graph import OpKind, Shape

_ACTIVATIONS: dict[str, tuple[OpKind, ...]] = {
    "linear": (),
    "relu": ("relu",),
    "relu6": ("relu6",),
    "hard_swish": ("hard_swish",),
    "hard_sigmoid": ("hard_sigmoid",),
    "sigmoid": ("sigmoid",),
    "silu": ("sigmoid", "multiply"),
    "softmax": ("softmax",),
}


def activation_name(call: Call, function: Any) -> str:
    """Which of the supported activations the Keras function is; refuses all others."""
    import keras

    if function is None:
        return "linear"
    for name in _ACTIVATIONS:
        if function is getattr(keras.activations, name):
            return name
    what = getattr(function, "__name__", type(function).__name__)
    raise call.refuse(f"its activation {what!r} is none of {', '.join(_ACTIVATIONS)}")


def activate(b: Builder, call: Call, x: Tensor, name: str, output: str) -> Tensor:
    """Append the activation called `name`; for `linear` the tensor itself. The result is called `output`."""
    kinds = _ACTIVATIONS[name]
    if not kinds:
        return x
    if name == "softmax" and len(x.shape) not in (2, 4):
        raise call.refuse(f"softmax over a tensor of shape {x.shape}")
    if len(kinds) == 1:
        return b.elementwise(kinds[0], f"{output}/{kinds[0]}" if b.has_op(output) else output, x, output)
    gate = b.elementwise(kinds[0], f"{output}/sigmoid", x)
    return b.emit("multiply", f"{output}/swish" if b.has_op(output) else output, (x, gate), x.shape, output)


def relu(b: Builder, call: Call, max_value: Any, slope: Any, threshold: Any) -> Tensor:
    """ReLU without a bound or bounded at 6; the tables know no other."""
    if slope or threshold or max_value not in (None, 6):
        raise call.refuse(
            f"max_value={max_value}, negative_slope={slope}, threshold={threshold}: "
            "ReLU without a bound and ReLU6 are supported"
        )
    return b.elementwise("relu" if max_value is None else "relu6", call.name, call.one())


def same_shapes(b: Builder, call: Call, tensors: Sequence[Tensor], kind: OpKind) -> Tensor:
    """Sum or product of two or more tensors, two at a time."""
    result = tensors[0]
    for at, other in enumerate(tensors[1:], 2):
        first, second = (result, other) if _size(result) >= _size(other) else (other, result)
        if not _fits(first.shape, second.shape, gate=kind == "multiply"):
            raise call.refuse(f"shapes {result.shape} and {other.shape} are not the same")
        name = call.name if at == len(tensors) else f"{call.name}/{at - 1}"
        result = b.emit(kind, name, (first, second), first.shape)
    return result


def _size(x: Tensor) -> int:
    return x.shape[1] * x.shape[2] if len(x.shape) == 4 else 1


def _fits(first: Shape, second: Shape, *, gate: bool) -> bool:
    """Equal, or (where `gate` allows it) the second has one value a channel."""
    return first == second or (gate and len(first) == 4 and second == (first[0], 1, 1, first[3]))


def _operands(call: Call) -> tuple[Any, Any]:
    """The two operands of a binary operation: tensors or float64 constants."""
    given = (*call.args, *call.kwargs.values())
    if len(given) != 2:
        raise call.refuse("it has not two operands")
    first, second = (v if isinstance(v, Tensor) else constant(v) for v in given)
    return first, second


def _add(b: Builder, call: Call) -> Tensor:
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return same_shapes(b, call, (first, second), "add")
    return b.affine(call, call.one(), 1.0, second if isinstance(first, Tensor) else first)


def _multiply(b: Builder, call: Call) -> Tensor:
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return same_shapes(b, call, (first, second), "multiply")
    return b.affine(call, call.one(), second if isinstance(first, Tensor) else first, 0.0)


def _subtract(b: Builder, call: Call) -> Tensor:
    first, second = _operands(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        raise call.refuse("one tensor is subtracted from another")
    if isinstance(first, Tensor):
        return b.affine(call, first, 1.0, -second)
    return b.affine(call, second, -1.0, first)


def _divide(b: Builder, call: Call) -> Tensor:
    first, second = _operands(call)
    if not isinstance(first, Tensor) or isinstance(second, Tensor):
        raise call.refuse("something is divided by a tensor")
    if not second.all():
        raise call.refuse("division by zero")
    return b.affine(call, first, 1.0 / second, 0.0)


def _negative(b: Builder, call: Call) -> Tensor:
    return b.affine(call, call.one(), -1.0, 0.0)


def _relu_operation(b: Builder, call: Call) -> Tensor:
    op = call.operation
    return relu(b, call, op.max_value, op.negative_slope, op.threshold)


def _clip(b: Builder, call: Call) -> Tensor:
    low, high = call.operation.x_min, call.operation.x_max
    if low != 0 or high != 6:
        raise call.refuse(f"clipping to [{low}, {high}]; only [0, 6] (ReLU6) is supported")
    return b.elementwise("relu6", call.name, call.one())


def _softmax(b: Builder, call: Call) -> Tensor:
    x = call.one()
    if call.operation.axis not in (-1, len(x.shape) - 1):
        raise call.refuse(f"softmax over axis {call.operation.axis}; only the last one is supported")
    return activate(b, call, x, "softmax", call.name)


def _named(name: str) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        return activate(b, call, call.one(), name, call.name)

    return handler


def _identity(_: Builder, call: Call) -> Tensor:
    return call.one()


OPERATIONS: dict[str, Handler] = {
    "Add": _add,
    "Subtract": _subtract,
    "Multiply": _multiply,
    "Divide": _divide,
    "TrueDivide": _divide,
    "Negative": _negative,
    "ReLU": _relu_operation,
    "Relu": _named("relu"),
    "Relu6": _named("relu6"),
    "HardSilu": _named("hard_swish"),
    "HardSigmoid": _named("hard_sigmoid"),
    "Sigmoid": _named("sigmoid"),
    "Silu": _named("silu"),
    "Softmax": _softmax,
    "Clip": _clip,
    "Identity": _identity,
}
