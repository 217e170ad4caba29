"""The parts that all handlers of Keras layers share: the growing graph, one call, constants, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Doubles
from mbn_deploy.errors import InputError
from mbn_deploy.graph.graph import Op, OpKind, Shape

# Values of one tensor: 512 MiB in float32, as of 32 channels at half the resolution of 4096 x 4096 pictures.
_MAX_VALUES = 1 << 27


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, in place of a symbolic tensor of Keras."""

    name: str
    shape: Shape


@dataclass
class GraphBuilder:
    """Collects ops while a Keras model is walked; a `Graph` is made of them at the end.

    `batch_norms` has the names of the affine ops that are BatchNorms: they say nothing about pixels. `channel_maps`
    has the tensors that are a linear map of the channels of another one, with that one and the matrix (see
    `handlers/channels.py`).
    """

    ops: list[Op] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    batch_norms: set[str] = field(default_factory=set)
    channel_maps: dict[str, tuple[Tensor, Doubles]] = field(default_factory=dict)

    def unique(self, name: str, scope: str = "") -> str:
        """Return `name` if it is free, else with its model's name in front, else with a number behind."""
        candidate, count = name, 0
        if candidate in self.names and scope:
            candidate = name = f"{scope}/{name}"
        while candidate in self.names:
            count += 1
            candidate = f"{name}_{count}"
        self.names.add(candidate)
        return candidate

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """Add a tensor called `name`; raises `InputError` for one that is too large to be computed."""
        check_size(f"tensor {name!r}", shape)
        self.shapes[name] = shape
        return Tensor(name, shape)

    def emit(
        self, kind: OpKind, name: str, inputs: tuple[Tensor, ...], shape: Shape, output: str = "", **fields: Any
    ) -> Tensor:
        """Append one op and return its output.

        The output is called `output`, or like the op; names that are taken get a number behind. `fields` are those
        of `Op`.
        """
        name = self.unique(name) if self.has_op(name) else name
        output = output or name
        result = self.tensor(self.unique(output) if output in self.shapes else output, shape)
        self.names.update((name, result.name))
        self.ops.append(Op(kind, name, tuple(t.name for t in inputs), result.name, **fields))
        return result

    def has_op(self, name: str) -> bool:
        """Tell whether there is an op of that name."""
        return any(op.name == name for op in self.ops)

    def reshaped(self, name: str, x: Tensor, shape: Shape) -> Tensor:
        """Append a reshape to `shape`, unless `x` has that shape already."""
        return x if x.shape == shape else self.emit("reshape", name, (x,), shape)

    def elementwise(self, kind: OpKind, name: str, x: Tensor, output: str = "") -> Tensor:
        """Append a function of one tensor."""
        return self.emit(kind, name, (x,), x.shape, output)

    def affine(self, call: Call, x: Tensor, scale: npt.ArrayLike, offset: npt.ArrayLike) -> Tensor:
        """Append `x * scale + offset`, each of them a number or one value per channel."""
        if len(x.shape) not in (2, 3, 4):
            raise call.refuse(f"it works on a tensor of shape {x.shape}, not on images or feature vectors")
        factor, shift = (_per_channel(call, value, x.shape) for value in (scale, offset))
        return self.emit("affine", call.name, (x,), x.shape, scale=factor, offset=shift)


@dataclass(frozen=True)
class Call:
    """One call of a Keras layer or operation: its arguments, and its place in the model for messages.

    `name` is the name that its op gets; `tensors` are all tensors among the arguments. `gives_integers` tells whether
    Keras' result has an integer type, as pixels of an integer input do until something makes them floating point.
    """

    operation: Any
    name: str
    place: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: tuple[Tensor, ...]
    gives_integers: bool = False

    def refuse(self, why: str) -> InputError:
        """Return the error for a call that cannot be exported; the caller raises it."""
        what = type(self.operation).__name__
        return InputError(f"{what} {self.operation.name!r} ({self.place}) cannot be exported: {why}")

    def one(self) -> Tensor:
        """Return the only input tensor."""
        if len(self.tensors) != 1:
            raise self.refuse(f"it has {len(self.tensors)} input tensors, one is expected")
        return self.tensors[0]

    def image(self) -> Tensor:
        """Return the only input tensor, of shape (N, H, W, C)."""
        x = self.one()
        if len(x.shape) != 4:
            raise self.refuse(f"its input has shape {x.shape}, an image (N, H, W, C) is expected")
        return x


def check_size(what: str, shape: Sequence[int | None]) -> None:
    """Raise `InputError`, with `what` it is of, for a shape of too many values; dimensions that are open count as 1."""
    if math.prod(size or 1 for size in shape) > _MAX_VALUES:
        raise InputError(f"{what} has the shape {tuple(shape)}; tensors of at most {_MAX_VALUES} values are exported")


Handler = Callable[[GraphBuilder, Call], Tensor | tuple[Tensor, ...]]


def to_numpy(value: Any) -> Array:
    """Return a Keras variable, backend tensor, number or nested list as a numpy array."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value) if hasattr(value, "dtype") else value)


def constant(value: Any) -> Doubles:
    """Return a Keras variable, backend tensor, number or nested list in float64."""
    values: Doubles = to_numpy(value).astype(np.float64)
    return values


def pair(value: Any) -> tuple[int, int]:
    """Return a number, or two of them, as (vertical, horizontal)."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


def _per_channel(call: Call, value: npt.ArrayLike, shape: Shape) -> Doubles:
    """Return a constant as one value per channel; refuse one that adds axes or varies along other axes."""
    values, channels = np.asarray(value, np.float64), shape[-1]
    fits = values.size == 1 or (values.shape[-1] == channels and values.size == channels)
    if not fits or values.ndim > len(shape) or not np.isfinite(values).all():
        raise call.refuse(f"a constant of shape {values.shape} is not one finite number a channel ({channels})")
    spread: Doubles = np.broadcast_to(values.reshape(-1), (channels,)).copy()
    return spread
