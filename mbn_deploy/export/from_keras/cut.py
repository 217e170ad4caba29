"""Cutting a Keras model at one of its layers: one of several outputs, or an inner layer as an embedding."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.export.from_keras.losses import Loss, loss_of_output
from mbn_deploy.export.from_keras.walk import function_of

OPTION = "--output-layer"
_LISTED = 8  # layers that are named where nothing is near

_Path = tuple[str, ...]  # the names of nested models, then of a layer


@dataclass(frozen=True, eq=False)
class CutModel:
    """A Keras model with one output.

    Attributes:
        model: the model, which shares its layers and weights with the one that it was cut from.
        output: which of the former outputs it has; None if it ends at an inner layer.
        names: what that output is called: its key in a dict of outputs, and its layer.
        outputs: the number of outputs of the former model.
    """

    model: Any
    output: int | None
    names: tuple[str, ...]
    outputs: int

    def loss(self, compiled: Any) -> Loss | None:
        """Return the loss of the output, of all losses that the former model was compiled with."""
        return None if self.output is None else loss_of_output(compiled, self.output, self.names, self.outputs)


def cut_model(model: Any, layer: str | None) -> CutModel:
    """Return the part of `model` that ends at `layer`, or at its only output if that is None.

    A layer inside of nested models is named by its path (`backbone/out_relu`), or by its own name if there is only one
    of that name. An output of shape (N, 1, 1, C) becomes (N, C).

    Raises:
        UsageError: there are several outputs and none is named, or the layer is called more than once.
        UnknownNameError: there is no such layer; names the near ones.
    """
    function = function_of(model, "the model")
    names = _output_names(function)
    if layer is None and len(names) != 1:
        raise UsageError(
            f"model {model.name!r} has {len(names)} outputs: "
            + ", ".join(f"{own[0]} {tuple(t.shape)[1:]}" for own, t in zip(names, function.outputs, strict=True))
            + f"; choose one with {OPTION} NAME"
        )
    index: int | None = 0
    cut = _model(function, function.outputs[0], model.name) if _has_named_ends(function) else model
    if layer is not None:
        index = next((at for at, own in enumerate(names) if layer in own), None)
        tensor = function.outputs[index] if index is not None else _tensor(model, _find(function, layer, names))
        index = next((at for at, t in enumerate(function.outputs) if t is tensor), None)
        if len(names) > 1 or index is None:
            cut = _model(function, tensor, model.name)
    return CutModel(
        model=_flat(cut, model.name),
        output=index,
        names=() if index is None else names[index],
        outputs=len(names),
    )


def _output_names(function: Any) -> list[tuple[str, ...]]:
    """Return the names of each output: its key, if the outputs are a dict, and its layer."""
    structure = getattr(function, "_outputs_struct", None)
    layers = [str(t._keras_history.operation.name) for t in function.outputs]  # noqa: SLF001 (Keras has no public way to it)
    if not isinstance(structure, dict):
        return [(layer,) for layer in layers]
    keys = {id(tensor): str(key) for key, tensor in structure.items()}
    return [
        (keys[id(t)], layer) if id(t) in keys else (layer,) for t, layer in zip(function.outputs, layers, strict=True)
    ]


def _find(function: Any, layer: str, outputs: Sequence[tuple[str, ...]]) -> _Path:
    """Return the path of the layer that is called so."""
    paths = list(_paths(function, ()))
    names = {"/".join(path): path for path in paths}
    for wanted in (layer, layer.replace("/", "_")):  # Keras 2 allowed slashes in names, which become underscores
        if wanted in names:
            return names[wanted]
        inner = [path for path in paths if path[-1] == wanted]
        if len(inner) > 1:
            raise UsageError(f"{OPTION} {layer!r} occurs {len(inner)} times: {', '.join('/'.join(p) for p in inner)}")
        if inner:
            return inner[0]
    known = [*(name for own in outputs for name in own), *names, *(path[-1] for path in paths)]
    near = difflib.get_close_matches(layer, known, n=1, cutoff=0.5)
    raise UnknownNameError(
        f"layer of {OPTION}", layer, dict.fromkeys(known if near else known[: len(outputs)] + list(names)[-_LISTED:])
    )


def _paths(function: Any, outer: _Path) -> Iterator[_Path]:
    import keras

    for operation in function.operations:
        path = (*outer, str(operation.name))
        yield path
        if isinstance(operation, keras.Model):
            yield from _paths(function_of(operation, f"the model {'/'.join(path)!r}"), path)


def _tensor(model: Any, path: _Path) -> Any:
    """Return the output of a layer as a tensor of `model`; nested models on its way are called anew, up to it."""
    function = function_of(model, "the model")
    nodes = [node for level in function._nodes_by_depth.values() for node in level if node.operation.name == path[0]]  # noqa: SLF001
    if len(nodes) != 1:
        raise UsageError(
            f"{OPTION}: {path[0]!r} is called {len(nodes)} times in {model.name!r}; name a layer that is called once"
        )
    (node,) = nodes
    if len(path) == 1:
        if len(node.outputs) != 1:
            raise UsageError(f"{OPTION}: {path[0]!r} has {len(node.outputs)} outputs; name a layer inside of it")
        return node.outputs[0]
    inner = node.operation
    cut = _model(function_of(inner, f"the model {inner.name!r}"), _tensor(inner, path[1:]), inner.name)
    return cut(list(node.input_tensors) if len(node.input_tensors) > 1 else node.input_tensors[0])


def _model(function: Any, tensor: Any, name: str) -> Any:
    import keras

    inputs = function.inputs
    # A model of one input in a list warns when it is called with an array.
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, tensor, name=name)


def _has_named_ends(function: Any) -> bool:
    """Tell whether the model takes or gives a dict, where the export wants tensors."""
    return any(isinstance(getattr(function, name, None), dict) for name in ("_inputs_struct", "_outputs_struct"))


def _flat(model: Any, name: str) -> Any:
    """Return the model with an output of shape (N, C) where it is (N, 1, 1, C)."""
    import keras

    function = function_of(model, "the model")
    if tuple(function.outputs[0].shape)[1:-1] != (1, 1):
        return model
    return _model(function, keras.layers.Flatten(name="flat_output")(function.outputs[0]), name)
