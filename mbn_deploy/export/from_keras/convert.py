"""A Keras model becomes a float `Graph`; what it does to its input first is kept beside it, for the preprocessing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.from_keras.builder import GraphBuilder
from mbn_deploy.export.from_keras.input_resize import input_resize
from mbn_deploy.export.from_keras.keras_graph import InputAffine, KerasGraph
from mbn_deploy.export.from_keras.model_preprocess import split_input_affine
from mbn_deploy.export.from_keras.patterns import recognise
from mbn_deploy.export.from_keras.walk import append_model, function_of
from mbn_deploy.graph.graph import Graph, Shape

if TYPE_CHECKING:
    import keras


def graph_from_keras(model: keras.Model, batch: int = 1, size: tuple[int, int] | None = None) -> KerasGraph:
    """Convert `model` to a float graph with the static batch size `batch`.

    `size` (height, width) is needed where the model's own input leaves them open, unless the model resizes pictures
    of any size itself: then the graph begins behind that.

    Raises:
        InputError: something cannot be exported; the message names the layer, its class and its place.
        UsageError: `size` contradicts the model.
    """
    function = function_of(model, "the model")
    build = GraphBuilder()
    resize = input_resize(model) if size is None and _is_open(function) else None
    size = size if resize is None else resize.size
    source = build.tensor(build.unique(str(function.inputs[0].name)), _input_shape(function, model.name, batch, size))
    (result,) = append_model(build, model, (source,))
    if result.name == source.name:
        raise InputError(f"model {model.name!r} does nothing: its output is its input")
    graph = recognise(_live(Graph(model.name, source.name, result.name, tuple(build.ops), build.shapes)))
    graph, affine = split_input_affine(graph, build.batch_norms)
    if "int" in str(function.inputs[0].dtype):
        affine = _integer_pixels(affine, source.shape[-1])
    return KerasGraph(graph=graph, input_affine=affine, resize=None if resize is None else resize.kind)


def _is_open(function: Any) -> bool:
    """Tell whether the model takes pictures of any size."""
    shape = tuple(function.inputs[0].shape)
    return len(function.inputs) == 1 and len(shape) == 4 and None in shape[1:3]


def _live(graph: Graph) -> Graph:
    """Return `graph` without ops on which its output does not depend, such as channels that were picked one by one."""
    needed = {graph.output}
    for op in reversed(graph.ops):
        if op.output in needed:
            needed.update(op.inputs)
    return graph.with_ops(op for op in graph.ops if op.output in needed)


def _integer_pixels(affine: InputAffine | None, channels: int) -> InputAffine:
    """Return the affine of a model whose input is integers: pixels, whatever follows."""
    if affine is None:
        return InputAffine(np.ones(channels), np.zeros(channels), takes_pixels=True)
    return replace(affine, takes_pixels=True)


def _input_shape(function: Any, name: str, batch: int, size: tuple[int, int] | None) -> Shape:
    shapes = [tuple(t.shape) for t in function.inputs]
    if len(shapes) != 1 or len(function.outputs) != 1:
        raise InputError(
            f"model {name!r} has {len(shapes)} inputs and {len(function.outputs)} outputs; one of each is supported"
        )
    if len(shapes[0]) != 4:
        raise InputError(f"model {name!r} takes {shapes[0]}; an image (N, H, W, C) is expected")
    _, height, width, channels = shapes[0]
    if size is not None and (height or size[0], width or size[1]) != tuple(size):
        raise UsageError(f"model {name!r} takes {height}x{width} pictures, not {size[0]}x{size[1]}")
    height, width = height or (size or (0, 0))[0], width or (size or (0, 0))[1]
    if not (height and width and channels):
        raise InputError(f"model {name!r} leaves its input size open ({shapes[0]}); give it with --size")
    return (batch, int(height), int(width), int(channels))
