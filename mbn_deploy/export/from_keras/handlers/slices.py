"""Parts of tensors: subscripts, crops, flips, splits, and their counterparts that repeat or stack values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, pair
from mbn_deploy.export.from_keras.handlers.arithmetic import joined
from mbn_deploy.export.from_keras.handlers.channels import can_pick, map_channels
from mbn_deploy.export.from_keras.handlers.reductions import positive_axes
from mbn_deploy.graph.graph import Shape

Range = tuple[int, int, int]  # start, step, size along one axis


def take_ranges(build: GraphBuilder, x: Tensor, ranges: Sequence[Range], name: str) -> Tensor:
    """Append the part of `x` that `ranges` say, one for each axis behind the batch.

    The channels of a picture are picked by a channel map, which becomes a part of the convolution behind it.
    """
    whole = [(0, 1, n) for n in x.shape[1:]]
    wanted = list(ranges)
    if can_pick(x) and wanted[2] != whole[2]:
        start, step, size = wanted[2]
        wanted[2] = whole[2]
        inner = take_ranges(build, x, wanted, f"{name}/pixels")
        picked = np.eye(x.shape[3])[:, [start + step * i for i in range(size)]]
        return map_channels(build, inner, picked, name)
    if wanted == whole:
        return x
    starts, steps, sizes = (tuple(values) for values in zip(*wanted, strict=True))
    return build.emit("slice", name, (x,), (x.shape[0], *sizes), starts=starts, steps=steps)


def subscript(build: GraphBuilder, call: Call) -> Tensor:
    """Append `x[key]`: slices, numbers, `...` and `None`."""
    x = call.one()
    keys = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    keys = list(keys) if isinstance(keys, (list, tuple)) else [keys]
    ranges: list[Range] = []
    shape: list[int] = []
    for key, length in _keys_by_axis(call, keys, x.shape):
        if length is None:
            shape.append(1)
            continue
        ranges.append(_range_of(call, key, length))
        if isinstance(key, slice):
            shape.append(ranges[-1][2])
    if ranges[0] != (0, 1, x.shape[0]) or not shape or shape[0] != x.shape[0] or min(r[2] for r in ranges) < 1:
        raise call.refuse("it picks from the batch, or takes nothing")
    part = take_ranges(build, x, ranges[1:], call.name)
    return reshaped(build, f"{call.name}/reshaped", part, tuple(shape))


def _keys_by_axis(call: Call, keys: list[Any], shape: Shape) -> list[tuple[Any, int | None]]:
    """Return each key with the length of the axis that it picks from, None for a new axis."""
    if sum(key is Ellipsis for key in keys) == 0:
        keys = [*keys, Ellipsis]
    taken = sum(key is not None and key is not Ellipsis for key in keys)
    if sum(key is Ellipsis for key in keys) > 1 or taken > len(shape):
        raise call.refuse(f"its subscript does not fit the shape {shape}")
    at = keys.index(Ellipsis)
    keys = [*keys[:at], *[slice(None)] * (len(shape) - taken), *keys[at + 1 :]]
    lengths = iter(shape)
    return [(key, None if key is None else next(lengths)) for key in keys]


def _range_of(call: Call, key: Any, length: int) -> Range:
    if isinstance(key, slice):
        numbers = range(length)[key]
        return numbers.start, numbers.step, len(numbers)
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or not -length <= key < length:
        raise call.refuse(f"its subscript has {key!r}; slices, numbers within the axis, '...' and None are supported")
    return int(key) % length, 1, 1


def reshaped(build: GraphBuilder, name: str, x: Tensor, shape: Shape) -> Tensor:
    """Append a reshape that adds or removes axes of length 1; the result is known to hold picked channels, if `x` is.

    So the stack of `x[..., 2]`, `x[..., 1]` and `x[..., 0]` is found to be a flip.
    """
    known = build.channel_maps.get(x.name)
    if known is not None and len(shape) == 4 and x.shape != shape:
        return map_channels(build, known[0], known[1], name)
    result = build.reshaped(name, x, shape)
    if len(x.shape) == 4 and x.shape[3] == 1 and shape == x.shape[:3]:
        build.channel_maps[result.name] = known or (x, np.eye(1))
    return result


def cropping(build: GraphBuilder, call: Call) -> Tensor:
    """Append Cropping2D."""
    x = call.image()
    ranges = []
    for (before, after), length in zip((pair(side) for side in call.operation.cropping), x.shape[1:3], strict=True):
        if before + after >= length:
            raise call.refuse(f"it crops {before} and {after} from a length of {length}")
        ranges.append((before, 1, length - before - after))
    return take_ranges(build, x, [*ranges, (0, 1, x.shape[3])], call.name)


def flip(build: GraphBuilder, call: Call) -> Tensor:
    """Append a reversal of axes."""
    x = call.one()
    axes = positive_axes(call, call.operation.axis, len(x.shape))
    ranges = [(n - 1, -1, n) if axis in axes else (0, 1, n) for axis, n in enumerate(x.shape)]
    return take_ranges(build, x, ranges[1:], call.name)


def split(build: GraphBuilder, call: Call) -> tuple[Tensor, ...]:
    """Append the parts of a tensor, cut along one axis into equal parts or at the given places."""
    x, sections = call.one(), call.operation.indices_or_sections
    (axis,) = positive_axes(call, call.operation.axis, len(x.shape))
    length = x.shape[axis]
    if isinstance(sections, int):
        cuts = [length * i // sections for i in range(1, sections)]
    else:
        cuts = [int(one) for one in sections]
    parts = []
    for at, (start, stop) in enumerate(zip([0, *cuts], [*cuts, length], strict=True)):
        ranges = [(start, 1, stop - start) if i == axis else (0, 1, n) for i, n in enumerate(x.shape)]
        parts.append(take_ranges(build, x, ranges[1:], f"{call.name}/{at}"))
    return tuple(parts)


def take(build: GraphBuilder, call: Call) -> Tensor:
    """Append `take` of constant channels of a picture."""
    x = call.one()
    indices = np.asarray(call.args[1] if len(call.args) > 1 else call.kwargs.get("indices"))
    (axis,) = positive_axes(call, call.operation.axis, len(x.shape))
    if axis != 3 or not can_pick(x) or indices.ndim != 1 or indices.dtype.kind not in "iuf":
        raise call.refuse("only constant channels of a picture can be taken")
    return map_channels(build, x, np.eye(x.shape[3])[:, indices.astype(int)], call.name)


def repeat(build: GraphBuilder, call: Call) -> Tensor:
    """Append `repeat`: each value several times, along one axis."""
    x, times = call.one(), call.operation.repeats
    (axis,) = positive_axes(call, call.operation.axis, len(x.shape))
    times = times[0] if isinstance(times, (list, tuple)) and len(times) == 1 else times
    if not isinstance(times, (int, np.integer)):
        raise call.refuse("it repeats values different numbers of times")
    return _repeated(build, call, x, {axis: int(times)}, name=call.name)


def tile(build: GraphBuilder, call: Call) -> Tensor:
    """Append `tile`: the whole tensor several times, along the channels of a picture or along axes of length 1."""
    x, given = call.one(), call.operation.repeats
    times = [int(n) for n in (given if isinstance(given, (list, tuple)) else [given])]
    times = [1] * (len(x.shape) - len(times)) + times
    if len(times) == len(x.shape) == 4 and times[:3] == [1, 1, 1] and can_pick(x):
        return map_channels(build, x, np.tile(np.eye(x.shape[3]), (1, times[3])), call.name)
    wanted = {axis: n for axis, n in enumerate(times) if n != 1}
    if len(times) != len(x.shape) or any(x.shape[axis] != 1 for axis in wanted):
        raise call.refuse("only channels of a picture, or axes of length 1, are tiled")
    return _repeated(build, call, x, wanted, name=call.name)


def _repeated(build: GraphBuilder, call: Call, x: Tensor, times: dict[int, int], name: str) -> Tensor:
    """Append a tensor of which each value stands several times along the axes in `times`."""
    times = {axis: n for axis, n in times.items() if n != 1}
    if not times:
        return x
    if len(x.shape) != 4 or 0 in times or (3 in times and not can_pick(x)):
        raise call.refuse(f"values of a tensor of shape {x.shape} are repeated along {sorted(times)}")
    if 3 in times:
        count = times.pop(3)
        matrix = np.repeat(np.eye(x.shape[3]), count, axis=1)
        inner = _repeated(build, call, x, times, f"{name}/pixels")
        return map_channels(build, inner, matrix, name)
    shape = (x.shape[0], x.shape[1] * times.get(1, 1), x.shape[2] * times.get(2, 1), x.shape[3])
    return build.emit("resize", name, (x,), shape, interpolation="nearest")


def stack(build: GraphBuilder, call: Call) -> Tensor:
    """Append a stack of tensors along a new axis."""
    tensors, rank = call.tensors, len(call.tensors[0].shape)
    axis = call.operation.axis % (rank + 1)
    if axis == 0:
        raise call.refuse("it stacks along the batch axis")
    wider = [
        reshaped(build, f"{call.name}/{at}", x, (*x.shape[:axis], 1, *x.shape[axis:])) for at, x in enumerate(tensors)
    ]
    return joined(build, wider, axis, call.name)
