"""Loading the weights of a whole-model `.h5` file by name.

Keras loads them in their order, which depends on what was frozen when the file was written: in another order,
weights of the same shape would silently be swapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError
from mbn_deploy.models.hdf5 import attribute_names


def load_named(model: Any, group: Any, where: str) -> None:
    """Set every weight of `model` from the HDF5 `group` (`model_weights`); `where` names the file in errors.

    Raises:
        InputError: a weight of the model or of the file has no counterpart, or has another shape.
    """
    stored = {
        _without_slashes(name): group[name]
        for name in attribute_names(group, "layer_names")
        if attribute_names(group[name], "weight_names")
    }
    for layer in model.layers:
        # Keras 3 writes the name of the whole model in front of those of a Sequential's layers.
        leaves = list(_leaves(layer, (_without_slashes(model.name),)))
        if not any(leaf.weights for _, leaf in leaves):
            continue
        if layer.name not in stored:
            raise InputError(f"{where}: it has no weights for layer {layer.name!r}")
        _load_layer(leaves, stored.pop(layer.name), where, nested=hasattr(layer, "layers"))
    if stored:
        raise InputError(f"{where}: it has weights for {', '.join(stored)}, which are not in its configuration")


def split_windows_names(file: Any) -> None:
    """Turn group names that hold backslashes into groups inside of each other, in an HDF5 file open for writing.

    Keras 2.12 to 2.15 joined the names of groups by the separator of the system, which Windows writes so.
    """
    for name in sorted((name for name in file if "\\" in name), key=lambda name: name.count("\\")):
        file.move(name, name.replace("\\", "/"))


def _load_layer(leaves: Sequence[tuple[tuple[str, ...], Any]], group: Any, where: str, *, nested: bool) -> None:
    """Set the weights of one layer, or of all layers of a nested model."""
    entries = {name: _parts(name) for name in attribute_names(group, "weight_names")}
    for scopes, leaf in leaves:
        for variable in leaf.weights:
            matches = [
                name
                for name, (scope, last) in entries.items()
                if last in _names_of(variable) and (scope in _prefixes(scopes) or not nested)
            ]
            place = f"{where}: weight {variable.name!r} of layer {'/'.join(scopes[1:])!r}"
            if len(matches) != 1:
                raise InputError(f"{place} occurs {len(matches)} times under that name; save the model with Keras 3")
            values = np.asarray(group[matches[0]])
            entries.pop(matches[0])
            if values.shape != tuple(variable.shape):
                raise InputError(f"{place} must have shape {tuple(variable.shape)}, the file has {values.shape}")
            variable.assign(values)
        if hasattr(leaf, "finalize_state") and leaf.weights:  # Normalization computes its mean and deviation of them
            leaf.finalize_state()
    if entries:
        raise InputError(f"{where}: it has weights {', '.join(entries)}, which are not in its configuration")


def _leaves(layer: Any, scopes: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (names from the outermost model on, layer) of every layer that is no model."""
    if not hasattr(layer, "layers"):
        yield (*scopes, layer.name), layer
        return
    for inner in layer.layers:
        yield from _leaves(inner, (*scopes, layer.name))


def _without_slashes(name: str) -> str:
    """Replace the slashes of Keras 2 names by underscores, as in Keras 3."""
    return name.replace("/", "_")


def _parts(name: str) -> tuple[str, str]:
    """Split a stored name into (layer, variable): `mobilenet/conv1/kernel:0` is of `mobilenet_conv1`."""
    scope, _, last = name.split(":", maxsplit=1)[0].rpartition("/")
    return _without_slashes(scope), last


def _names_of(variable: Any) -> tuple[str, ...]:
    """Return the names of a Keras 3 variable in files: Keras 2 wrote `depthwise_kernel` in a DepthwiseConv2D."""
    return ("kernel", "depthwise_kernel") if variable.name == "kernel" else (variable.name,)


def _prefixes(scopes: tuple[str, ...]) -> set[str]:
    """Return what may precede a variable's name: Keras 2 wrote the layer only, Keras 3 some or all models around it."""
    return {"_".join(scopes[at:]) for at in range(len(scopes))}
