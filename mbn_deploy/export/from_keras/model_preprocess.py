"""Preprocessing inside a model: what it does to its input first becomes the exported file's `Preprocess`, exactly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.from_keras.keras_graph import InputAffine, KerasGraph
from mbn_deploy.graph.graph import Graph, Op, treats_channels_alike
from mbn_deploy.manifest import PREPROCESS_MODES, Channels, Preprocess


def split_input_affine(graph: Graph, batch_norms: Collection[str]) -> tuple[Graph, InputAffine | None]:
    """Remove the affine ops and the flips of colours (RGB to BGR) at the input.

    They may also follow ops that treat all pixels and channels alike, such as a crop, a resize, or the copy of a grey
    channel: these commute with them. Return the remaining graph and the composition of what was removed, or None if
    there is no such op. An op stays where something else reads its input too, or where a scale is not above 0, so that
    no standard deviation could stand for it. `batch_norms` are the names of affine ops that are BatchNorms.
    """
    channels = graph.shapes[graph.input][-1]
    affine = InputAffine(np.ones(channels), np.zeros(channels), takes_pixels=False)
    removed: list[Op] = []
    copied = False
    for op in _input_chain(graph):
        if treats_channels_alike(op) or _copies_grey(op):
            copied = copied or _copies_grey(op)
            continue
        further = _composed(affine, op, batch_norms, copied=copied)
        if further is None:
            break
        affine = further
        removed.append(op)
    if not removed and _rescales_later(graph, batch_norms):
        return graph, replace(affine, takes_pixels=True)
    return (_without(graph, removed), affine) if removed else (graph, None)


def _rescales_later(graph: Graph, batch_norms: Collection[str]) -> bool:
    """Tell whether the input is rescaled to smaller values behind ops that do not commute with that.

    Such a rescaling stays in the graph, but it says that the input is pixels.
    """
    for op in _input_chain(graph):
        if op.scale is not None and op.name not in batch_norms and not _is_identity(op):
            return bool(np.abs(op.scale).max() <= 1)
        if op.kind not in ("affine", "channel_map", "pad") and not treats_channels_alike(op):
            return False
    return False


def _is_identity(op: Op) -> bool:
    """Tell whether an affine op changes nothing, as a Normalization that was never adapted."""
    return op.scale is not None and op.offset is not None and bool((op.scale == 1).all() and not op.offset.any())


def _input_chain(graph: Graph) -> Iterator[Op]:
    """Yield the ops that follow the input one after the other, as long as each is the only reader; not the last op."""
    readers, tensor = graph.readers(), graph.input
    while len(readers[tensor]) == 1 and len((op := readers[tensor][0]).inputs) == 1 and op.output != graph.output:
        yield op
        tensor = op.output


def _copies_grey(op: Op) -> bool:
    return (
        op.kind == "channel_map" and op.kernel is not None and op.kernel.shape[2] == 1 and bool((op.kernel == 1).all())
    )


def _reverses(op: Op) -> bool:
    matrix = None if op.kind != "channel_map" or op.kernel is None else op.kernel[0, 0]
    return matrix is not None and matrix.shape == (3, 3) and bool((matrix == np.eye(3)[::-1]).all())


def _composed(affine: InputAffine, op: Op, batch_norms: Collection[str], *, copied: bool) -> InputAffine | None:
    """Return `affine` followed by `op`, None if that is nothing that preprocessing can do.

    With `copied`, `op` works on copies of a grey channel, so it must do the same to all of them.
    """
    if _reverses(op):
        if copied:
            return affine
        return replace(
            affine,
            scale=affine.scale[::-1],
            offset=affine.offset[::-1],
            reverses_channels=not affine.reverses_channels,
        )
    if op.scale is None or op.offset is None or not (op.scale > 0).all():
        return None
    scale, offset = op.scale, op.offset
    if copied:
        if np.ptp(scale) or np.ptp(offset):
            return None
        scale, offset = scale[:1], offset[:1]
    return replace(
        affine,
        scale=affine.scale * scale,
        offset=affine.offset * scale + offset,
        takes_pixels=affine.takes_pixels or not (op.name in batch_norms or _is_identity(op)),
    )


def _without(graph: Graph, removed: Sequence[Op]) -> Graph:
    """Return `graph` without ops of the chain at its input; each tensor has the name of the last one merged into it."""
    gone = {op.output for op in removed}
    groups = [[graph.input]]
    for op in _input_chain(graph):
        if op.output in gone:
            groups[-1].append(op.output)
        else:
            groups.append([op.output])
    names = {name: group[-1] for group in groups for name in group}
    ops = (
        replace(op, inputs=tuple(names.get(t, t) for t in op.inputs), output=names.get(op.output, op.output))
        for op in graph.ops
        if op.output not in gone
    )
    return graph.with_ops(ops, input=names[graph.input])


def input_preprocess(keras_graph: KerasGraph, given: Preprocess | None) -> Preprocess:
    """Return the preprocessing of the exported file: `given`, and then what the model does to its input itself.

    Without `given`, a model that rescales its input takes pixels in [0, 255].

    Raises:
        InputError: the input has neither 1 nor 3 channels.
        UsageError: nothing is given, and the model has no rescaling, or one that makes its input larger, as `2 x - 1`
            does: values in [0, 1] are rescaled like that, not pixels. Or a mean and deviation for colours are given
            to a model that takes grey pictures.
    """
    graph, affine = keras_graph.graph, keras_graph.input_affine
    if given is None:
        _check_takes_pixels(graph.name, affine)
    outer = _for_channels(given or Preprocess(), graph.shapes[graph.input][-1])
    if affine is None:
        return outer
    if affine.reverses_channels:
        turned: Channels = "bgr" if outer.channels == "rgb" else "rgb"
        outer = replace(outer, mean=outer.mean[::-1], std=outer.std[::-1], channels=turned)
    # scale * (pixel - mean) / std + offset  =  (pixel - (mean - offset * std / scale)) / (std / scale)
    std = np.asarray(outer.std) / affine.scale
    mean = np.asarray(outer.mean) - affine.offset * std
    return replace(outer, mean=_rounded(mean), std=_rounded(std))


def _check_takes_pixels(name: str, affine: InputAffine | None) -> None:
    ask = f"say how its input is normalized with --preprocess {'|'.join(PREPROCESS_MODES)}|MEAN/STD"
    if affine is None or not affine.takes_pixels:
        raise UsageError(
            f"model {name!r} has no rescaling layer, so nothing says what its input was in training; {ask}"
        )
    if affine.scale.max() > 1:
        raise UsageError(
            f"model {name!r} multiplies its input by {affine.scale.max():g}, so it does not take pixels in [0, 255] "
            f"but values that were normalized before; {ask}"
        )


def _rounded(values: Doubles) -> tuple[float, ...]:
    """Round to nine digits: more than float32 holds, and 127.5 does not become 127.49999999999999."""
    return tuple(float(f"{v:.9g}") for v in values)


def _for_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """Return the preprocessing with as many means and deviations as the model's input has channels."""
    if channels not in (1, 3):
        raise InputError(f"the model's input has {channels} channels; pictures have 1 or 3")
    mean, std = preprocess.mean, preprocess.std
    if len(mean) == channels:
        return preprocess
    if len(set(mean)) > 1 or len(set(std)) > 1:
        raise UsageError(f"mean {mean} and std {std} are for colour pictures, the model's input has one channel")
    return replace(preprocess, mean=mean[:1] * channels, std=std[:1] * channels)
