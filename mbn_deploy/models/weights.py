"""Loading weights files into a network: the whole file is compared with the layers before anything is set.

There are three layouts: `.weights.h5` of Keras 3 (by class and position), `.h5` of Keras 2 and of whole models (by
layer, in order), and the weights inside a `.keras` archive.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.models.hdf5 import SIGNATURE, attribute_names, content_kind, open_hdf5
from mbn_deploy.models.keras_zip import WEIGHTS_MEMBER, is_zip, read_member
from mbn_deploy.text import shorten

if TYPE_CHECKING:
    import keras

_OTHER_NETWORK = "It is of another network, or one of the two is without its top"


@dataclass(frozen=True, eq=False)
class SavedLayer:
    """One layer of a file: its name there, its arrays, and their names ("kernel"; empty if the file has none)."""

    name: str
    arrays: tuple[Array, ...]
    names: tuple[str, ...] = ()


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Set the weights of `model`, a flat network of `models.build`, from the file at `path`.

    Raises:
        InputError: the file is damaged, or does not fit; the message names the layers and shapes. `model` is
            unchanged then.
    """
    path = Path(path)
    layers = [layer for layer in model.layers if layer.weights]
    saved, ordered = _read(path)
    if not ordered:
        saved = _in_model_order(path, model, layers, saved)
    if len(saved) != len(layers):
        raise InputError(
            f"{path} does not fit {model.name}: it holds {len(saved)} layers with weights, not {len(layers)}. "
            f"{_OTHER_NETWORK}"
        )
    _check_fits(path, layers, saved)
    for layer, one in zip(layers, saved, strict=True):
        layer.set_weights(one.arrays)


def _read(path: Path) -> tuple[list[SavedLayer], bool]:
    """Return all layers with weights, and whether they have the model's order."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file")
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
    if start != SIGNATURE and not is_zip(start):
        raise InputError(f"{path} is no weights file: neither HDF5 (.h5) nor a .keras archive")
    source = path if start == SIGNATURE else io.BytesIO(read_member(path, WEIGHTS_MEMBER))
    with open_hdf5(source, str(path)) as file:
        kind = content_kind(file)
        if kind == "other":
            raise InputError(f"{path} is an HDF5 file, but holds no weights of a Keras model")
        if kind == "weights":
            return _positional(file, str(path)), False
        return _named(file.get("model_weights", file)), True


def _named(root: Any) -> list[SavedLayer]:
    layers = []
    for name in attribute_names(root, "layer_names"):
        group = root[name]
        variables = attribute_names(group, "weight_names")
        if variables:
            arrays = tuple(np.asarray(group[variable]) for variable in variables)
            layers.append(SavedLayer(name, arrays, tuple(_keras3_name(variable) for variable in variables)))
    return layers


def _keras3_name(variable: str) -> str:
    """Return the Keras 3 name of a variable: `conv_dw_1/depthwise_kernel:0` of Keras 2 is `kernel`."""
    last = variable.split(":", maxsplit=1)[0].rsplit("/", 1)[-1]
    return re.sub(r"_\d+$", "", last).removeprefix("depthwise_")


def _positional(file: Any, where: str) -> list[SavedLayer]:
    if "layers" not in file:
        raise InputError(f"{where} was written by an early Keras 2.12, whose layout is not read; save it again as .h5")
    layers = []
    for name, group in file["layers"].items():
        if "layers" in group:
            raise InputError(f"{where} is of a model with another model ({name}) inside, not of a plain MobileNet")
        variables = group.get("vars", {})
        arrays = tuple(np.asarray(variables[str(i)]) for i in range(len(variables)))
        if arrays:
            layers.append(SavedLayer(name, arrays))
    return layers


def _in_model_order(path: Path, model: Any, layers: Sequence[Any], saved: Sequence[SavedLayer]) -> list[SavedLayer]:
    """Return the saved layers in the order of `layers`, by the names that Keras 3 gives: `conv2d`, `conv2d_1`, ..."""
    counts: dict[str, int] = {}
    keys: dict[str, str] = {}
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        counts[kind] = counts.get(kind, -1) + 1
        keys[layer.name] = f"{kind}_{counts[kind]}" if counts[kind] else kind
    by_key = {one.name: one for one in saved}
    wanted = [keys[layer.name] for layer in layers]
    missing = [f"{layer.name!r} ({key})" for layer, key in zip(layers, wanted, strict=True) if key not in by_key]
    unused = [key for key in by_key if key not in wanted]
    if missing or unused:
        lacks = f"the file has no weights for {shorten(missing)}. " if missing else ""
        spare = f"the model has no layer for the file's {shorten(unused)}. " if unused else ""
        raise InputError(f"{path} does not fit {model.name}: {lacks}{spare}{_OTHER_NETWORK}")
    return [by_key[key] for key in wanted]


def _snake_case(name: str) -> str:
    """Return a class name as Keras 3 names its groups: `DepthwiseConv2D` is `depthwise_conv2d`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _check_fits(path: Path, layers: Sequence[Any], saved: Sequence[SavedLayer]) -> None:
    """Compare the shape, name and type of every array; the error says what the mismatches have in common."""
    wrong = [at for at, (layer, one) in enumerate(zip(layers, saved, strict=True)) if not _fits(layer, one)]
    if not wrong:
        return
    first = f"layer {layers[wrong[0]].name!r} needs {_needs(layers[wrong[0]])}, the file has {_has(saved[wrong[0]])}"
    more = f", and {len(wrong) - 1} more layers do not fit" if len(wrong) > 1 else ""
    if wrong == [len(layers) - 1]:
        hint = f"It has {saved[-1].arrays[-1].shape[-1]} classes, the model {layers[-1].weights[-1].shape[-1]}"
    else:
        hint = "It is of another alpha or another network"
    raise InputError(f"{path} does not fit: {first}{more}. {hint}")


def _fits(layer: Any, one: SavedLayer) -> bool:
    variables = layer.weights
    shapes = [tuple(v.shape) for v in variables] == [a.shape for a in one.arrays]
    same_names = not one.names or [v.name for v in variables] == list(one.names)
    return shapes and same_names and all(np.issubdtype(a.dtype, np.floating) for a in one.arrays)


def _needs(layer: Any) -> str:
    return ", ".join(f"{v.name} {tuple(v.shape)}" for v in layer.weights)


def _has(one: SavedLayer) -> str:
    names = one.names or ("",) * len(one.arrays)
    types = ("" if np.issubdtype(a.dtype, np.floating) else f" of {a.dtype}" for a in one.arrays)
    values = (f"{name} {a.shape}{dtype}".strip() for name, a, dtype in zip(names, one.arrays, types, strict=True))
    return f"{', '.join(values) or 'nothing'} in {one.name!r}"
