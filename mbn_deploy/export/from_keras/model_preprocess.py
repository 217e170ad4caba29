"""Preprocessing inside a model: what it does to its input first becomes the exported file's `Preprocess`, exactly."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.from_keras.keras_graph import InputAffine, KerasGraph
from mbn_deploy.graph.graph import Graph
from mbn_deploy.manifest import PREPROCESS_MODES, Preprocess


def split_input_affine(graph: Graph, batch_norms: Collection[str]) -> tuple[Graph, InputAffine | None]:
    """Remove the affine ops that directly follow the input.

    Return the remaining graph and their composition, or None if there is no such op. An op stays where something
    else reads its input too, or where a scale is not above 0, so that no standard deviation could stand for it.
    `batch_norms` are the names of affine ops that are BatchNorms.
    """
    affine: InputAffine | None = None
    while True:
        readers = graph.readers()[graph.input]
        op = readers[0]
        if len(readers) != 1 or op.scale is None or op.offset is None or not (op.scale > 0).all():
            return graph, affine
        if op.output == graph.output:
            return graph, affine
        before = affine or InputAffine(np.ones_like(op.scale), np.zeros_like(op.scale), takes_pixels=False)
        identity = (op.scale == 1).all() and not op.offset.any()  # a Normalization that was never adapted
        affine = InputAffine(
            scale=before.scale * op.scale,
            offset=before.offset * op.scale + op.offset,
            takes_pixels=before.takes_pixels or not (op.name in batch_norms or identity),
        )
        graph = graph.with_ops((one for one in graph.ops if one is not op), input=op.output)


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
