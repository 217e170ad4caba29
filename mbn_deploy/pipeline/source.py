"""What an export starts from: the model as a folded float graph, and everything that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.encode import ModelDescription, file_stem
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.keras_graph import KerasGraph
from mbn_deploy.export.from_keras.model_preprocess import input_preprocess
from mbn_deploy.graph.fold import fold
from mbn_deploy.graph.graph import Graph
from mbn_deploy.graph.input_normalization import red_first
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.options import Names, Request
from mbn_deploy.runtime.labels import mismatch, parse_labels
from mbn_deploy.runtime.system.files import read_file

# Keras numbers the inputs of all models of a process: its name says nothing, and differs from run to run.
INPUT_NAME = "image"


@dataclass(frozen=True, eq=False)
class Source:
    """A Keras model and its folded graph of batch 1.

    `keras_preprocess` is that of the Keras model's own input, `description.preprocess` that of the graph,
    which begins behind the model's own rescaling and takes red first. `file` is where the model was read from.
    """

    model: Any
    graph: Graph
    description: ModelDescription
    keras_preprocess: Preprocess
    classes: int
    file: Path | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        _, height, width, _ = self.graph.shapes[self.graph.input]
        return height, width

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.graph.shapes[self.graph.input][-1]

    def fan_ins(self) -> list[int]:
        """How many products each output of each convolution and dense layer sums up."""
        return [op.weights()[0].size // op.weights()[1].size for op in self.graph.weighted()]


def open_source(model: Any, request: Request) -> Source:
    """`model` (a Keras model, or the path of a .keras or .h5 file) as a folded graph.

    Raises `InputError` for what cannot be exported and for labels that are not one a class,
    `UsageError` where nothing says how the input was normalized.
    """
    file = Path(model) if isinstance(model, (str, Path)) else None
    opened = _load(file) if file is not None else model
    size = (request.size, request.size) if isinstance(request.size, int) else request.size
    found = graph_from_keras(opened, batch=1, size=size)
    given = _known_preprocess(opened) if request.preprocess is None else request.preprocess
    inner = replace(input_preprocess(found, given), **request.geometry)
    graph, taken = red_first(_with_input_name(fold(found.graph), INPUT_NAME), inner)
    _, height, width, _ = graph.shapes[graph.input]
    stem = file_stem(request.name or _own_name(opened, file), (height, width))
    labels = _labels(request.labels, found.classes)
    description = ModelDescription(stem, found.scores, taken, labels, request.onnx_layout, request.about)
    return Source(opened, graph, description, _outer(found, inner, given), found.classes, file)


def _with_input_name(graph: Graph, name: str) -> Graph:
    if name in graph.shapes:
        return graph
    renamed = {graph.input: name}
    ops = (replace(op, inputs=tuple(renamed.get(t, t) for t in op.inputs)) for op in graph.ops)
    shapes = {renamed.get(t, t): shape for t, shape in graph.shapes.items()}
    return replace(graph, input=name, ops=tuple(ops), shapes=shapes)


def lines(names: Names) -> tuple[str, ...]:
    """The lines of a text file, or what was given instead of one. Raises `InputError`."""
    if isinstance(names, (str, Path)):
        return parse_labels(read_file(Path(names)), str(names))
    return tuple(str(name) for name in names)


def _labels(labels: Names | None, classes: int) -> tuple[str, ...] | None:
    if labels is None:
        return None
    found = lines(labels)
    problem = mismatch(found, classes, str(labels) if isinstance(labels, (str, Path)) else "labels")
    if problem is not None:
        raise InputError(problem)
    return found


def _load(file: Path) -> Any:
    from mbn_deploy.export.from_keras.load import load_keras

    return load_keras(file)


def _known_preprocess(model: Any) -> Preprocess | None:
    """What a model of `build` knows about itself; `None` for any other, and for one that rescales inside."""
    spec = getattr(model, "mbn_spec", None)
    return None if spec is None or spec.network.rescaling else Preprocess.parse("tf")


def _own_name(model: Any, file: Path | None) -> str:
    spec = getattr(model, "mbn_spec", None)
    if spec is not None:
        return str(spec.name)
    return file.stem if file is not None else str(model.name)


def _outer(found: KerasGraph, inner: Preprocess, given: Preprocess | None) -> Preprocess:
    """The preprocessing of the Keras model's own input: as given, with one value a channel."""
    if found.input_affine is None:
        return inner
    outer, channels = given or Preprocess(), len(inner.mean)
    if len(outer.mean) != channels:
        outer = replace(outer, mean=outer.mean[:1] * channels, std=outer.std[:1] * channels)
    return replace(inner, mean=outer.mean, std=outer.std)
