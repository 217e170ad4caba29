"""The source of an export: the Keras model, converted to a folded float graph, and what is known about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.errors import UsageError
from mbn_deploy.export.encode import ModelDescription, file_stem
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.cut import CutModel, cut_model
from mbn_deploy.export.from_keras.find_answers import Head, find_answers
from mbn_deploy.export.from_keras.keras_graph import KerasGraph
from mbn_deploy.export.from_keras.load import compiled_losses, load_keras
from mbn_deploy.export.from_keras.model_preprocess import input_preprocess
from mbn_deploy.graph.fold import fold
from mbn_deploy.graph.graph import Graph
from mbn_deploy.graph.input_normalization import red_first
from mbn_deploy.manifest import Preprocess
from mbn_deploy.models.keras_backend import import_keras
from mbn_deploy.pipeline.label_names import read_labels
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.resize_choice import ASSUMED_RESIZE, ResizeFrom, choose_resize
from mbn_deploy.verify.evaluate import keras_function, keras_input

# The graph's input has this name, since Keras numbers its inputs over all models of a process.
INPUT_NAME = "image"


@dataclass(frozen=True, eq=False)
class Source:
    """A Keras model and its folded graph for one image.

    Attributes:
        model: the Keras model, cut at the layer that was chosen as its output.
        graph: its graph, which begins behind the model's own rescaling and takes the channels red first.
        description: what the exported files say about themselves; its preprocessing is that of `graph`.
        keras_preprocess: the preprocessing of the Keras model's own input.
        classes: number of outputs.
        file: where the model was read from; None for a model in memory.
        resize_from: who said how pictures are resized: an option, the model, or nobody (assumed).
        warnings: sentences about what the outputs mean, and about what was assumed.
    """

    model: Any
    graph: Graph
    description: ModelDescription
    keras_preprocess: Preprocess
    classes: int
    file: Path | None
    resize_from: ResizeFrom
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        _, height, width, _ = self.graph.shapes[self.graph.input]
        return height, width

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return self.graph.shapes[self.graph.input][-1]

    @cached_property
    def keras(self) -> Callable[[Floats], Floats]:
        """The Keras model as a function of its own input (N, H, W, C), which returns its scores (N, outputs)."""
        return keras_function(self.model)

    def keras_scores(self, pixels: Pixels | Floats) -> Floats:
        """Return the Keras model's scores (N, outputs) for pixels (N, H, W, C) in [0, 255], red first."""
        return self.keras(keras_input(pixels, self.keras_preprocess))

    def fan_ins(self) -> list[int]:
        """List the number of products that an output of each convolution and dense layer sums up."""
        return [op.weights()[0].size // op.weights()[1].size for op in self.graph.weighted()]


def open_source(model: Any, options: ExportOptions) -> Source:
    """Read `model`, a Keras model or the path of a .keras or .h5 file, and convert it to a folded graph.

    Raises:
        InputError: the model cannot be exported, or there is not one label per class.
        UsageError: nothing says which pixel values the model expects, what its outputs mean or which of several outputs
            is wanted; or Keras runs on another backend.
    """
    file = Path(model) if isinstance(model, (str, PathLike)) else None
    if file is None and not hasattr(model, "layers"):
        raise UsageError(f"the model is a Keras model or the path of a .keras or .h5 file, not {model!r:.80}")
    import_keras("to export Keras models")
    keras_model = load_keras(file) if file is not None else model
    cut = cut_model(keras_model, options.output_layer)
    size = (options.size, options.size) if isinstance(options.size, int) else options.size
    converted = graph_from_keras(cut.model, batch=1, size=size)
    answers, warnings = find_answers(_head(keras_model, file, cut, converted), options.scores)
    given = options.input_preprocess or _known_preprocess(keras_model)
    resized, resize_from = choose_resize(
        input_preprocess(converted, given), options, inside=converted.resize, known=_is_named(keras_model)
    )
    inner = options.with_geometry(resized)
    graph, preprocess = red_first(_with_input_name(fold(converted.graph), INPUT_NAME), inner)
    _, height, width, _ = graph.shapes[graph.input]
    description = ModelDescription(
        model=file_stem(options.name or _own_name(keras_model, file), (height, width)),
        answers=answers,
        preprocess=preprocess,
        labels=read_labels(options.labels, answers, converted.outputs),
        layout=options.layout,
        about=options.about,
    )
    return Source(
        model=cut.model,
        graph=graph,
        description=description,
        keras_preprocess=_outer_preprocess(converted, inner, given),
        classes=converted.outputs,
        file=file,
        resize_from=resize_from,
        warnings=(*warnings, *([ASSUMED_RESIZE] if resize_from == "assumed" else [])),
    )


def _head(model: Any, file: Path | None, cut: CutModel, converted: KerasGraph) -> Head:
    """Gather what the model, of which `cut` is exported, says about its outputs."""
    losses = getattr(model, "loss", None) if file is None else compiled_losses(file)
    return Head(
        where=f"model {model.name!r}" if file is None else str(file),
        end=converted.end,
        outputs=converted.outputs,
        loss=cut.loss(losses),
        classifies=_is_named(model) and cut.output is not None,
        inner=cut.output is None,
    )


def _with_input_name(graph: Graph, name: str) -> Graph:
    if name in graph.shapes:
        return graph
    renamed = {graph.input: name}
    ops = (replace(op, inputs=tuple(renamed.get(t, t) for t in op.inputs)) for op in graph.ops)
    shapes = {renamed.get(t, t): shape for t, shape in graph.shapes.items()}
    return replace(graph, input=name, ops=tuple(ops), shapes=shapes)


def _known_preprocess(model: Any) -> Preprocess | None:
    """Return the preprocessing of a model of `build` that does not rescale inside; None for any other model."""
    spec = getattr(model, "mbn_spec", None)
    return None if spec is None or spec.network.rescaling else Preprocess.parse("tf")


def _is_named(model: Any) -> bool:
    """Return whether a model comes from `build`."""
    return hasattr(model, "mbn_spec")


def _own_name(model: Any, file: Path | None) -> str:
    spec = getattr(model, "mbn_spec", None)
    if spec is not None:
        return str(spec.name)
    return file.stem if file is not None else str(model.name)


def _outer_preprocess(converted: KerasGraph, inner: Preprocess, given: Preprocess | None) -> Preprocess:
    """Return the preprocessing of the Keras model's own input: as given, with one value per channel."""
    if converted.input_affine is None:
        return inner
    outer, channels = given or Preprocess(), len(inner.mean)
    if len(outer.mean) != channels:
        outer = replace(outer, mean=outer.mean[:1] * channels, std=outer.std[:1] * channels)
    return replace(inner, mean=outer.mean, std=outer.std, channels=outer.channels)
