"""From a Keras model to the float `Graph`: every operation is walked, nested models are flattened.

The normalization directly behind the input is taken out of the graph, exactly, and becomes part of
the file's `Preprocess`, so that the graph begins with what the first convolution sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.from_keras.builder import SUPPORTED, Builder, Call, Tensor
from mbn_deploy.export.from_keras.layers import LAYERS, TRAINS_BY_DEFAULT
from mbn_deploy.export.from_keras.ops import OPERATIONS
from mbn_deploy.export.from_keras.patterns import recognise
from mbn_deploy.graph.graph import Graph, Shape
from mbn_deploy.manifest import PREPROCESS_MODES, Preprocess, Scores

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class KerasGraph:
    """A Keras model as a float graph (not folded yet: see `graph.fold`).

    `preprocess_affine` is the (scale, offset), one value a channel each, that the model applies to
    its input before `graph` begins; `None` if the model has no such layer. `takes_pixels`: the model itself
    says that its input is pixels in [0, 255], by a rescaling or an integer input (a BatchNorm does not).

    `scores` says what the output holds: probabilities of classes that exclude each other ("softmax"),
    one independent probability a class ("sigmoid"), or neither ("logits"). A single sigmoid output is
    `classes` 1: the probability of the positive class, and the one label is that class' name; there is
    no label for "not it". A single output without activation is its logit, likewise one class.

    Layers of half precision (`mixed_float16`, `mixed_bfloat16`) are exported with their float32 weights
    and computed in float32: the same function with less rounding than Keras does.
    """

    graph: Graph
    preprocess_affine: tuple[Doubles, Doubles] | None
    scores: Scores
    takes_pixels: bool = False

    @property
    def classes(self) -> int:
        """Number of classes; raises `InputError` if the output is not (N, classes)."""
        shape = self.graph.shapes[self.graph.output]
        if len(shape) != 2:
            raise InputError(
                f"model {self.graph.name!r} is no classifier: its output has shape {shape}, (N, classes) is expected"
            )
        return shape[1]


def graph_from_keras(model: keras.Model, batch: int = 1, size: tuple[int, int] | None = None) -> KerasGraph:
    """`model` as a float graph with the static batch size `batch`.

    `size` (height, width) is needed where the model's own input leaves them open; raises `UsageError` if it
    contradicts the model. Raises `InputError` that names the layer, its class and its place for what
    cannot be exported.
    """
    function = _function(model, "the model")
    b = Builder()
    source = b.tensor(b.unique(_input_name(function)), _input_shape(function, model.name, batch, size))
    (result,) = _walk(b, model, (source,), "")
    if result.name == source.name:
        raise InputError(f"model {model.name!r} does nothing: its output is its input")
    graph = recognise(Graph(model.name, source.name, result.name, tuple(b.ops), b.shapes))
    graph, affine, takes_pixels = _take_out_normalization(graph, b.learned)
    if "int" in str(function.inputs[0].dtype):
        channels = source.shape[-1]
        affine, takes_pixels = affine or (np.ones(channels), np.zeros(channels)), True
    return KerasGraph(graph, affine, _scores(graph), takes_pixels)


def input_preprocess(keras_graph: KerasGraph, preprocess: Preprocess | None) -> Preprocess:
    """The preprocessing of the exported file: `preprocess` and then what the model does to its input itself.

    With `None`, a model that rescales inside takes pixels in [0, 255]; one that does not raises
    `UsageError`, since nothing in the file says what it was trained on. So does one whose rescaling makes
    its input larger, as `2 x - 1` does: that is no rescaling of pixels, but of values in [0, 1].
    """
    affine = keras_graph.preprocess_affine
    if preprocess is None:
        _check_takes_pixels(keras_graph)
    outer = _for_channels(preprocess or Preprocess(), keras_graph)
    if affine is None:
        return outer
    # scale * (pixel - mean) / std + offset  =  (pixel - (mean - offset * std / scale)) / (std / scale)
    std = np.asarray(outer.std) / affine[0]
    mean = np.asarray(outer.mean) - affine[1] * std
    return replace(outer, mean=_rounded(mean), std=_rounded(std))


def _check_takes_pixels(keras_graph: KerasGraph) -> None:
    affine, name = keras_graph.preprocess_affine, keras_graph.graph.name
    ask = f"say how its input is normalized with --preprocess {'|'.join(PREPROCESS_MODES)}|MEAN/STD"
    if affine is None or not keras_graph.takes_pixels:
        raise UsageError(
            f"model {name!r} has no rescaling layer, so nothing says what its input was in training; {ask}"
        )
    if affine[0].max() > 1:
        raise UsageError(
            f"model {name!r} multiplies its input by {affine[0].max():g}, so it does not take pixels in [0, 255] "
            f"but something normalized before; {ask}"
        )


def _rounded(values: Doubles) -> tuple[float, ...]:
    """Nine digits: more than float32 holds, and 127.5 does not become 127.49999999999999."""
    return tuple(float(f"{v:.9g}") for v in values)


def _for_channels(preprocess: Preprocess, keras_graph: KerasGraph) -> Preprocess:
    """The preprocessing with as many means as the model has input channels."""
    channels = keras_graph.graph.shapes[keras_graph.graph.input][-1]
    if channels not in (1, 3):
        raise InputError(f"the model's input has {channels} channels; pictures have 1 or 3")
    mean, std = preprocess.mean, preprocess.std
    if len(mean) == channels:
        return preprocess
    if len(set(mean)) > 1 or len(set(std)) > 1:
        raise UsageError(f"mean {mean} and std {std} are for colour pictures, the model's input has one channel")
    return replace(preprocess, mean=mean[:1] * channels, std=std[:1] * channels)


def _input_name(function: Any) -> str:
    return str(function.inputs[0].name)


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


def _function(model: Any, where: str) -> Any:
    """The graph of operations of a functional or sequential model."""
    user = [c.__name__ for c in type(model).__mro__ if not _from_keras(c) and "call" in vars(c)]
    function = getattr(model, "_functional", None) if type(model).__name__ == "Sequential" else model
    if user or not hasattr(function, "_nodes_by_depth"):
        raise InputError(
            f"{where} ({type(model).__name__} {getattr(model, 'name', '?')!r}) is no functional or sequential Keras 3 "
            "model with a known input, so its layers cannot be walked; build it from keras.Input, or call it once"
        )
    return function


def _from_keras(cls: type) -> bool:
    return cls is object or cls.__module__.split(".")[0] in ("keras", "builtins", "tensorflow")


def _walk(b: Builder, model: Any, tensors: tuple[Tensor, ...], scope: str) -> tuple[Tensor, ...]:
    """Append everything that `model` does to `tensors`; the way of `keras.Function`, with our tensors."""
    import keras

    function = _function(model, f"the model inside {scope!r}" if scope else "the model")
    values = {id(k): t for k, t in zip(function.inputs, tensors, strict=True)}
    order = {id(op): i for i, op in enumerate(function.operations, 1)}
    for depth in sorted(function._nodes_by_depth, reverse=True):  # noqa: SLF001 (Keras has no public way to its nodes)
        for node in function._nodes_by_depth[depth]:  # noqa: SLF001
            if node.is_input or any(id(t) not in values for t in node.input_tensors):
                continue
            place = f"operation {order[id(node.operation)]} of {len(order)} in model {model.name!r}"
            args, kwargs = node.arguments.fill_in(values)
            given = tuple(v for v in keras.tree.flatten((args, kwargs)) if isinstance(v, Tensor))
            call = Call(node.operation, "", place + (f" inside {scope!r}" if scope else ""), args, kwargs, given)
            results = _apply(b, call, f"{scope}/{model.name}" if scope else model.name)
            _check_shapes(call, node.outputs, results)
            values.update((id(k), t) for k, t in zip(node.outputs, results, strict=True))
    return tuple(values[id(k)] for k in function.outputs)


def _check_shapes(call: Call, expected: Any, results: tuple[Tensor, ...]) -> None:
    """What the graph computes has the shape that Keras says: a second opinion on every option of every layer."""
    for k, t in zip(expected, results, strict=True):
        shape = tuple(k.shape)
        if len(shape) != len(t.shape) or any(n not in (None, m) for n, m in zip(shape[1:], t.shape[1:], strict=True)):
            raise call.refuse(f"its output would have the shape {t.shape}, but Keras says {shape}")


def _apply(b: Builder, call: Call, scope: str) -> tuple[Tensor, ...]:
    import keras

    operation = call.operation
    if call.kwargs.get("training") and type(operation).__name__ not in TRAINS_BY_DEFAULT:
        raise call.refuse("it is called with training=True, so it would act as in training")
    if isinstance(operation, keras.Model):
        _check_nested(call)
        return _walk(b, operation, call.tensors, scope)
    handlers = LAYERS if isinstance(operation, keras.Layer) else OPERATIONS
    handler = handlers.get(type(operation).__name__) if _from_keras(type(operation)) else None
    if handler is None:
        raise call.refuse(f"this class is not in the supported set; {SUPPORTED}")
    if getattr(operation, "data_format", None) == "channels_first":
        raise call.refuse("it works on channels first (NCHW); build the model with channels_last")
    named = replace(call, name=b.unique(_name_of(operation), scope))
    return (handler(b, named),)


def _check_nested(call: Call) -> None:
    """Refuse calls in which Keras would cast, reshape or reorder the inputs of a nested model."""
    function = _function(call.operation, f"the model ({call.place})")
    if len(function.inputs) != 1 or len(call.tensors) != 1:
        raise call.refuse(
            f"it has {len(function.inputs)} inputs and is called with {len(call.tensors)}; one is expected"
        )
    shape = tuple(function.inputs[0].shape)
    if len(shape) != len(call.tensors[0].shape):
        raise call.refuse(f"it takes {shape} and is called with {call.tensors[0].shape}")
    if "int" in str(function.inputs[0].dtype):
        raise call.refuse("its input is cast to integers inside the model")


def _name_of(operation: Any) -> str:
    """A layer's own name. Bare operations are numbered by Keras over all models of a process: here they are not."""
    import keras

    name = str(operation.name)
    return name if isinstance(operation, keras.Layer) else name.rstrip("0123456789").rstrip("_") or name


def _take_out_normalization(graph: Graph, learned: set[str]) -> tuple[Graph, tuple[Doubles, Doubles] | None, bool]:
    """Without the affine ops directly behind the input; their product; whether one of them is not a BatchNorm.

    One by one while nothing else reads it. A scale that is not above zero has no standard deviation to stand for
    it: such an op stays.
    """
    found, rescales = None, False
    while True:
        readers = graph.readers()[graph.input]
        op = readers[0]
        if len(readers) != 1 or op.scale is None or op.offset is None or not (op.scale > 0).all():
            return graph, found, rescales
        if op.output == graph.output:
            return graph, found, rescales
        before = found or (np.ones_like(op.scale), np.zeros_like(op.scale))
        found = (before[0] * op.scale, before[1] * op.scale + op.offset)
        identity = (op.scale == 1).all() and not op.offset.any()  # a Normalization that was never adapted
        rescales = rescales or not (op.name in learned or identity)
        graph = graph.with_ops((one for one in graph.ops if one is not op), input=op.output)


def _scores(graph: Graph) -> Scores:
    """What the output means, by the op that computes it; reshapes behind it change nothing."""
    writers = graph.writers()
    op = writers[graph.output]
    while op.kind == "reshape" and op.inputs[0] in writers:
        op = writers[op.inputs[0]]
    if op.kind == "softmax":
        # Softmax on every pixel and then flattened does not sum up to 1.
        return "softmax" if graph.shapes[op.output][-1] == graph.shapes[graph.output][-1] else "logits"
    return "sigmoid" if op.kind in ("sigmoid", "hard_sigmoid") else "logits"
