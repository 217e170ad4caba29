"""Folding: the same function in fewer ops, exactly, and in the form that every file format wants.

After `fold` a graph has no affine op, no channel map and no bias is missing; zero padding has moved into the
convolutions that read it, ReLU and ReLU6 into the ops in front of them. The names of tensors do not change: each keeps
the name of the last Keras layer that was merged into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Activation, Graph, Op, Shape

_CLIPPING: dict[str, Activation] = {"relu": "relu", "relu6": "relu6"}
_CAN_CLIP = WEIGHTED | {"add"}
_LINEAR = WEIGHTED | {"channel_map"}


def fold(graph: Graph) -> Graph:
    """Return `graph` without BatchNorm, rescaling and padding ops of their own; it computes the same function."""
    graph = _with_biases(graph)
    while (smaller := _step(graph)) is not None:
        graph = smaller
    return _leftover_affines(_leftover_maps(graph))


def _with_biases(graph: Graph) -> Graph:
    def complete(op: Op) -> Op:
        if op.kernel is None or op.bias is not None:
            return op
        channels = op.kernel.shape[-1] * (op.kernel.shape[2] if op.kind == "depthwise" else 1)
        return replace(op, bias=np.zeros(channels, np.float32))

    return graph.with_ops(complete(op) for op in graph.ops)


def _step(graph: Graph) -> Graph | None:
    """Return the graph after the first possible merge, or `None` if there is none."""
    readers, writers = graph.readers(), graph.writers()
    for op in graph.ops:
        source = writers.get(op.inputs[0])
        alone = source is not None and len(readers[source.output]) == 1
        if source is not None and alone and (merged := _into_source(source, op)) is not None:
            return _replaced(graph, {source.output: merged}, gone=op)
        following = readers[op.output]
        if following and op.output != graph.output and (merge := _INTO_READERS.get(op.kind)) is not None:
            merged_readers = [merge(op, reader) for reader in following]
            if all(new is not None for new in merged_readers):
                return _replaced(graph, {new.output: new for new in merged_readers if new is not None}, gone=op)
    return None


def _replaced(graph: Graph, changed: dict[str, Op], gone: Op) -> Graph:
    return graph.with_ops(changed.get(op.output, op) for op in graph.ops if op is not gone)


def _into_source(source: Op, op: Op) -> Op | None:
    """Merge `op` into `source`, the op in front of it; return `None` if that is not possible."""
    if source.activation != "none":
        return None
    if op.kind in _CLIPPING and source.kind in _CAN_CLIP:
        return replace(source, output=op.output, activation=_CLIPPING[op.kind])
    if op.kind == "channel_map":
        return _map_into_source(source, op)
    return _affine_into_source(source, op) if op.kind == "affine" else None


def _affine_into_source(source: Op, op: Op) -> Op | None:
    """Merge an affine op into another one, or into the weighted op, in front of it."""
    scale, offset = _affine(op)
    if source.kind == "affine":
        before = _affine(source)
        return replace(op, inputs=source.inputs, scale=before[0] * scale, offset=before[1] * scale + offset)
    if source.kind not in _LINEAR:
        return None
    kernel, bias = (values.astype(np.float64) for values in source.weights())
    kernel = kernel * (scale.reshape(kernel.shape[2:]) if source.kind == "depthwise" else scale)
    return _weighted(source, kernel, bias * scale + offset, output=op.output)


def _affine_into(op: Op, reader: Op) -> Op | None:
    """Merge an affine op into the weighted op behind it.

    An offset cannot be merged into a padded convolution, whose padding is zero behind the affine op.
    """
    scale, offset = _affine(op)
    if reader.kind not in _LINEAR or (any(reader.pads) and offset.any()):
        return None
    kernel, bias = (values.astype(np.float64) for values in reader.weights())
    if reader.kind == "depthwise":
        moved = (kernel.sum((0, 1)) * offset[:, None]).reshape(-1)
    else:
        moved = offset @ kernel.sum(tuple(range(kernel.ndim - 2)))
    return _weighted(reader, kernel * scale[:, None], bias + moved, inputs=op.inputs)


def _pad_into(op: Op, reader: Op) -> Op | None:
    """Merge zero padding into a convolution or another padding behind it; pools do not pad with zeros."""
    if reader.kind not in ("conv", "depthwise", "pad"):
        return None
    top, bottom, left, right = (a + b for a, b in zip(op.pads, reader.pads, strict=True))
    return replace(reader, inputs=op.inputs, pads=(top, bottom, left, right))


def _map_into_source(source: Op, op: Op) -> Op | None:
    """Merge a channel map into the convolution in front of it, unless that would give it more channels."""
    if source.kind not in ("conv", "channel_map"):
        return None
    kernel, bias = (values.astype(np.float64) for values in source.weights())
    matrix, shift = (values.astype(np.float64) for values in op.weights())
    if matrix.shape[3] > matrix.shape[2]:
        return None
    return _weighted(replace(source, groups=1), kernel @ matrix[0, 0], bias @ matrix[0, 0] + shift, output=op.output)


def _map_into(op: Op, reader: Op) -> Op | None:
    """Merge a channel map into the convolution behind it, unless that would have to read more channels."""
    matrix, shift = (values.astype(np.float64) for values in op.weights())
    if reader.kind not in ("conv", "channel_map") or matrix.shape[2] > matrix.shape[3]:
        return None
    if any(reader.pads) and shift.any():
        return None
    kernel, bias = (values.astype(np.float64) for values in reader.weights())
    moved = shift @ kernel.sum((0, 1))
    return _weighted(replace(reader, groups=1), matrix[0, 0] @ kernel, bias + moved, inputs=op.inputs)


_INTO_READERS: dict[str, Callable[[Op, Op], Op | None]] = {
    "affine": _affine_into,
    "pad": _pad_into,
    "channel_map": _map_into,
}


def _weighted(op: Op, kernel: Doubles, bias: Doubles, *, output: str = "", inputs: tuple[str, ...] = ()) -> Op:
    return replace(
        op,
        kernel=kernel.astype(np.float32),
        bias=bias.astype(np.float32),
        output=output or op.output,
        inputs=inputs or op.inputs,
    )


def _affine(op: Op) -> tuple[Doubles, Doubles]:
    if op.scale is None or op.offset is None:
        raise ValueError(f"op {op.name!r} ({op.kind}) has no scale or no offset")
    return op.scale, op.offset


def _leftover_maps(graph: Graph) -> Graph:
    """Turn each channel map that could not be merged into a 1x1 convolution."""
    return graph.with_ops(replace(op, kind="conv") if op.kind == "channel_map" else op for op in graph.ops)


def _leftover_affines(graph: Graph) -> Graph:
    """Turn each affine op that could not be merged into a depthwise 1x1 convolution."""
    shapes = dict(graph.shapes)
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind != "affine":
            ops.append(op)
            continue
        ops += rescaling_ops(op, *_affine(op), shapes)
    return replace(graph, shapes=shapes).with_ops(ops)


def rescaling_ops(
    op: Op, scale: Doubles, offset: Doubles, shapes: dict[str, Shape], activation: Activation = "none"
) -> list[Op]:
    """Return the depthwise 1x1 convolution x * scale + offset, per channel (C,), in place of `op`.

    A feature vector is reshaped to an image of one pixel, a sequence to one of one row, and back; the shapes of
    these tensors are added to `shapes`.
    """
    kernel, bias = scale.astype(np.float32).reshape(1, 1, -1, 1), offset.astype(np.float32)
    scaled = Op("depthwise", op.name, op.inputs, op.output, kernel=kernel, bias=bias, activation=activation)
    shape = shapes[op.output]
    if len(shape) == 4:
        return [scaled]
    image, result = f"{op.output}/pixel", f"{op.output}/scaled"
    shapes[image] = shapes[result] = (shape[0], 1, math.prod(shape[1:-1]), shape[-1])
    return [
        Op("reshape", f"{op.name}/pixel", op.inputs, image),
        replace(scaled, inputs=(image,), output=result),
        Op("reshape", f"{op.name}/vector", (result,), op.output),
    ]
