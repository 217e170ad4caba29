"""Compare the sizes that a model's configuration claims with its file, before Keras makes any weights.

A configuration of a few kB can claim 30 million filters or a picture of a million by a million pixels, and Keras would
first fill memory with random weights and then compare them with the stored ones. So the model is first built in
outline: Keras computes every shape, but no weight has values yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.builder import check_size
from mbn_deploy.export.from_keras.walk import function_of
from mbn_deploy.text import shorten

Shapes = Counter[tuple[int, ...]]  # of the weights that a file holds, and how many have each

_MAX_PARTS = 1 << 12  # of a split; Keras makes an object of each of them

# The settings that give the sizes of a layer's first weight; "input" is what the layer before gives.
_KERNELS = {
    "Conv2D": ("kernel_size", "input", "filters"),
    "DepthwiseConv2D": ("kernel_size", "input", "depth_multiplier"),
    "SeparableConv2D": ("kernel_size", "input", "depth_multiplier"),
    "Dense": ("input", "units"),
}


def build_outline(keras: Any, config: Mapping[str, Any]) -> Any:
    """Return the model of a repaired configuration, with shapes but without values in its weights.

    Keras keeps variables that have no values yet in a list of the thread, and gives them values later. In a thread of
    its own the list ends with the thread.
    """

    def build() -> Any:
        with keras.StatelessScope(initialize_variables=False):
            return keras.saving.deserialize_keras_object(_for_outline(config), safe_mode=True)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(build).result()


def _for_outline(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without layers that make arrays as large as their input while they are built."""
    layers = [
        _for_outline(one) if "layers" in one["config"] else _without_arrays(one) for one in config["config"]["layers"]
    ]
    return {**config, "config": {**config["config"], "layers": layers}}


def _without_arrays(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a Normalization whose mean is a setting, not a weight, as Identity, which has the same shape."""
    settings = entry["config"]
    if entry["class_name"] == "Normalization" and settings.get("mean") is not None:
        return {**entry, "class_name": "Identity", "config": {"name": settings["name"]}}
    return entry


def check_settings(config: Mapping[str, Any], stored: Shapes, where: str) -> None:
    """Raise `InputError` for a layer whose settings alone tell that it is too large, or of another size than stored.

    `config` is a repaired configuration, `stored` the shapes of the weights in the file that `where` names. Keras is
    not needed for this, and its own messages about such layers seldom name them.
    """
    for entry in config["config"]["layers"]:
        settings = entry["config"]
        if "layers" in settings:
            check_settings(entry, stored, where)
            continue
        place = f"{where}: {entry['class_name']} {settings.get('name')!r}"
        if _are_sizes(shape := settings.get("batch_shape")):
            check_size(place, shape)
        parts = settings.get("indices_or_sections")
        if isinstance(parts, int) and parts > _MAX_PARTS:
            raise InputError(f"{place} makes {parts} parts of a tensor; at most {_MAX_PARTS} are exported")
        shape = [size for name in _KERNELS.get(entry["class_name"], ()) for size in _sizes(settings, name)]
        if shape and _are_sizes(shape) and not any(_fits(shape, one) for one in stored):
            wanted = ", ".join("?" if size is None else str(size) for size in shape)
            alike = shorten(str(one) for one in stored if len(one) == len(shape)) or "none of so many dimensions"
            raise InputError(f"{place} needs a kernel of shape ({wanted}); those in the file have {alike}")


def _sizes(settings: Mapping[str, Any], name: str) -> list[Any]:
    """Return the sizes that a setting gives; None stands for one that it leaves open."""
    value = None if name == "input" else settings.get(name, 1)
    return value if isinstance(value, list) else [value, value] if name == "kernel_size" else [value]


def _are_sizes(value: Any) -> bool:
    """Tell whether a value is a list of whole numbers and None: a wrong one is left to Keras."""
    return isinstance(value, list) and all(one is None or type(one) is int for one in value)


def _fits(shape: Sequence[int | None], stored: tuple[int, ...]) -> bool:
    return len(shape) == len(stored) and all(a in (None, b) for a, b in zip(shape, stored, strict=True))


def check_claims(outline: Any, stored: Shapes, where: str) -> None:
    """Compare the model in outline with the shapes of the weights in its file, which `where` names.

    Raises:
        InputError: a weight has a shape that is not (often enough) in the file, or a layer has an output that is too
            large; the message names the layer.
    """
    left = stored.copy()
    missing: list[tuple[str, Any]] = []
    for name, variable in _weights(outline):
        shape = tuple(variable.shape)
        if left[shape] > 0:
            left[shape] -= 1
        else:
            missing.append((name, variable))
    if missing:
        name, variable = missing[0]
        more = f" (and {len(missing) - 1} more weights do not fit)" if len(missing) > 1 else ""
        other = shorten(str(shape) for shape in left.elements()) or "none"
        raise InputError(
            f"{where}: weight {variable.name!r} of layer {name!r} must have shape {tuple(variable.shape)}, which no "
            f"weight in the file has{more}; the file's weights without a layer: {other}"
        )
    for name, shape in _outputs(outline):
        check_size(f"{where}: layer {name!r}", shape)


def _outputs(model: Any) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Yield (layer, shape) of everything that a model and those nested in it compute, and of what they take."""
    function = function_of(model, f"model {model.name!r}")
    for depth in sorted(function._nodes_by_depth, reverse=True):  # noqa: SLF001 (as in `walk`)
        for node in function._nodes_by_depth[depth]:  # noqa: SLF001
            yield from ((node.operation.name, tuple(tensor.shape)) for tensor in node.outputs)
            if hasattr(node.operation, "layers"):
                yield from _outputs(node.operation)


def _weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield (layer, variable) of every weight, those of a shared layer once."""
    seen: set[int] = set()
    pending = [(model.name, model)]
    while pending:
        path, layer = pending.pop(0)
        if hasattr(layer, "layers"):
            pending += [(f"{path}/{one.name}" if layer is not model else one.name, one) for one in layer.layers]
        elif id(layer) not in seen:
            seen.add(id(layer))
            yield from ((path, variable) for variable in layer.weights)
