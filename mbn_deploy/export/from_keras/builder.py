"""What the Keras converter shares: the growing graph, one call of an operation, constants, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Doubles
from mbn_deploy.errors import InputError
from mbn_deploy.graph.graph import Op, OpKind, Shape, output_length, same_pads

SUPPORTED = (
    "supported are convolutions (plain, depthwise, separable), Dense, BatchNormalization, ReLU and ReLU6, "
    "hard-swish, hard-sigmoid, swish, sigmoid, softmax, Add, Multiply, ZeroPadding2D, average and max pooling, "
    "Flatten, Reshape, Rescaling, Normalization, dropout and augmentation layers, and models nested in models"
)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, standing where Keras has its symbolic tensors."""

    name: str
    shape: Shape


@dataclass
class Builder:
    """Collects operations while the model is walked; thrown away when the `Graph` is made."""

    ops: list[Op] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    learned: set[str] = field(default_factory=set)  # BatchNorm: an affine op that says nothing about pixels

    def unique(self, name: str, scope: str = "") -> str:
        """`name` if it is free, else with its model's name in front, else with a number behind."""
        candidate, count = name, 0
        if candidate in self.names and scope:
            candidate = name = f"{scope}/{name}"
        while candidate in self.names:
            count += 1
            candidate = f"{name}_{count}"
        self.names.add(candidate)
        return candidate

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """A new tensor called `name`."""
        self.shapes[name] = shape
        return Tensor(name, shape)

    def emit(
        self, kind: OpKind, name: str, inputs: tuple[Tensor, ...], shape: Shape, output: str | None = None, **attrs: Any
    ) -> Tensor:
        """Append one op; its output is called `output`, or like the op, with a number behind where that is taken."""
        name = self.unique(name) if self.has_op(name) else name
        output = output or name
        result = self.tensor(self.unique(output) if output in self.shapes else output, shape)
        self.names.update((name, result.name))
        self.ops.append(Op(kind, name, tuple(t.name for t in inputs), result.name, **attrs))
        return result

    def has_op(self, name: str) -> bool:
        """Whether an op of that name was appended."""
        return any(op.name == name for op in self.ops)

    def elementwise(self, kind: OpKind, name: str, x: Tensor, output: str | None = None) -> Tensor:
        """Append a function of one tensor."""
        return self.emit(kind, name, (x,), x.shape, output)

    def affine(self, call: Call, x: Tensor, scale: npt.ArrayLike, offset: npt.ArrayLike) -> Tensor:
        """Append `x * scale + offset`, both of them numbers or one value a channel."""
        if len(x.shape) not in (2, 4):
            raise call.refuse(f"it works on a tensor of shape {x.shape}, not on images or feature vectors")
        factor, shift = (_per_channel(call, value, x.shape) for value in (scale, offset))
        return self.emit("affine", call.name, (x,), x.shape, scale=factor, offset=shift)


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation: what is called, with what, and where it stands in the model."""

    operation: Any
    name: str
    place: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: tuple[Tensor, ...]

    def refuse(self, why: str) -> InputError:
        """The error for something that cannot be exported; to be raised by the caller."""
        what = type(self.operation).__name__
        return InputError(f"{what} {self.operation.name!r} ({self.place}) cannot be exported: {why}")

    def one(self) -> Tensor:
        """The only input tensor."""
        if len(self.tensors) != 1:
            raise self.refuse(f"it has {len(self.tensors)} input tensors, one is expected")
        return self.tensors[0]

    def image(self) -> Tensor:
        """The only input tensor, of shape (N, H, W, C)."""
        x = self.one()
        if len(x.shape) != 4:
            raise self.refuse(f"its input has shape {x.shape}, an image (N, H, W, C) is expected")
        return x


Handler = Callable[[Builder, Call], Tensor]


def array(value: Any) -> npt.NDArray[Any]:
    """A Keras variable, backend tensor, number or nested list as a numpy array."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value) if hasattr(value, "dtype") else value)


def constant(value: Any) -> Doubles:
    """As `array`, in float64."""
    values: Doubles = array(value).astype(np.float64)
    return values


def _per_channel(call: Call, value: npt.ArrayLike, shape: Shape) -> Doubles:
    """A constant as one value a channel; its own axes must not add to those of the tensor or vary along others."""
    values, channels = np.asarray(value, np.float64), shape[-1]
    fits = values.size == 1 or (values.shape[-1] == channels and values.size == channels)
    if not fits or values.ndim > len(shape) or not np.isfinite(values).all():
        raise call.refuse(f"a constant of shape {values.shape} is not one finite number a channel ({channels})")
    spread: Doubles = np.broadcast_to(values.reshape(-1), (channels,)).copy()
    return spread


def windowed(
    b: Builder,
    call: Call,
    kind: OpKind,
    x: Tensor,
    size: tuple[int, int],
    *,
    channels: int,
    name: str,
    output: str,
    **attrs: Any,
) -> Tensor:
    """Append a convolution or pooling with the layer's strides, padding and dilation.

    `size` is the window's (height, width), `channels` those of the output; `attrs` go to the `Op`.
    """
    layer = call.operation
    stride = pair(layer.strides)
    dilation = pair(getattr(layer, "dilation_rate", 1))
    if layer.padding not in ("same", "valid"):
        raise call.refuse(f"padding {layer.padding!r}")
    sides = [(0, 0), (0, 0)]
    if layer.padding == "same":
        sides = [same_pads(x.shape[i + 1], size[i], stride[i], dilation[i]) for i in (0, 1)]
    area = [output_length(x.shape[i + 1], size[i], stride[i], dilation[i], sum(sides[i])) for i in (0, 1)]
    if min(area) < 1:
        raise call.refuse(f"a window of {size} does not fit into its input of shape {x.shape}")
    shape = (x.shape[0], *area, channels)
    return b.emit(
        kind, name, (x,), shape, output, stride=stride, dilation=dilation, pads=(*sides[0], *sides[1]), **attrs
    )


def pair(value: Any) -> tuple[int, int]:
    """A number or two of them as (vertical, horizontal)."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)
