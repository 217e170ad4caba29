"""Weights of a whole `.h5` file into its model, by name.

Keras sets them by their order, which depends on what was frozen when the file was written: in another order,
weights of one shape would silently be swapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError
from mbn_deploy.models.hdf5 import names


def load_named(model: Any, group: Any, where: str) -> None:
    """Set every weight of `model` from the HDF5 `group` (`model_weights`); raises `InputError` if one has no match."""
    stored = {_flat(name): group[name] for name in names(group, "layer_names") if names(group[name], "weight_names")}
    for layer in model.layers:
        leaves = list(_leaves(layer, ()))
        if not any(leaf.weights for _, leaf in leaves):
            continue
        if layer.name not in stored:
            raise InputError(f"{where}: it has no weights for layer {layer.name!r}")
        _load_layer(leaves, stored.pop(layer.name), where, nested=hasattr(layer, "layers"))
    if stored:
        raise InputError(f"{where}: it has weights for {', '.join(stored)}, of which its configuration knows nothing")


def _load_layer(leaves: Sequence[tuple[tuple[str, ...], Any]], group: Any, where: str, *, nested: bool) -> None:
    """Set the weights of one layer, or of all layers of a nested model."""
    entries = {name: _parts(name) for name in names(group, "weight_names")}
    for scopes, leaf in leaves:
        for variable in leaf.weights:
            found = [
                name
                for name, (scope, last) in entries.items()
                if last in _names_of(variable) and (scope in _prefixes(scopes) or not nested)
            ]
            place = f"{where}: weight {variable.name!r} of layer {'/'.join(scopes)!r}"
            if len(found) != 1:
                raise InputError(f"{place} is there {len(found)} times under that name; save the model with Keras 3")
            values = np.asarray(group[found[0]])
            entries.pop(found[0])
            if values.shape != tuple(variable.shape):
                raise InputError(f"{place} must have shape {tuple(variable.shape)}, the file has {values.shape}")
            variable.assign(values)
        if hasattr(leaf, "finalize_state") and leaf.weights:  # Normalization: mean and variance of what was adapted
            leaf.finalize_state()
    if entries:
        raise InputError(f"{where}: it has weights {', '.join(entries)}, of which its configuration knows nothing")


def _leaves(layer: Any, scopes: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names from the outermost model on, layer) of every layer that is no model."""
    if not hasattr(layer, "layers"):
        yield (*scopes, layer.name), layer
        return
    for inner in layer.layers:
        yield from _leaves(inner, (*scopes, layer.name))


def _flat(name: str) -> str:
    """Slashes of Keras 2 names are underscores in Keras 3."""
    return name.replace("/", "_")


def _parts(name: str) -> tuple[str, str]:
    """(layer, variable) of a stored name: `mobilenet/conv1/kernel:0` is of `mobilenet_conv1`."""
    scope, _, last = name.split(":", maxsplit=1)[0].rpartition("/")
    return _flat(scope), last


def _names_of(variable: Any) -> tuple[str, ...]:
    """A Keras 3 variable's names in files: the kernel of a DepthwiseConv2D was `depthwise_kernel` in Keras 2."""
    return ("kernel", "depthwise_kernel") if variable.name == "kernel" else (variable.name,)


def _prefixes(scopes: tuple[str, ...]) -> set[str]:
    """What may stand before a variable's name: Keras 2 wrote the layer only, Keras 3 all models around it."""
    return {"_".join(scopes[at:]) for at in range(len(scopes))}
