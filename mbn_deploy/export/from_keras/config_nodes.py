"""The calls in a Keras configuration: references between layers, in the form of Keras 2 and of Keras 3.

Keras 2: `[["conv", 0, 0, {"training": false}]]`, of an operation `["conv", 0, 0, {"y": ["bn", 0, 0]}]`.
Keras 3: `{"args": [{"class_name": "__keras_tensor__", ...}], "kwargs": {}}`, which is the form of the results here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError

CONSTANT = "_CONSTANT_VALUE"  # stands for a layer's name where Keras 2 has a number as the first operand


class Nodes:
    """The calls in one model, with the layers renamed; only tensors and plain values are let through."""

    def __init__(
        self, names: Mapping[str, str], layers: Sequence[Mapping[str, Any]], *, keras2: bool, nested: Sequence[str]
    ) -> None:
        self.names = names
        self._keras2 = keras2
        self._kinds = {str(layer["name"]): str(layer["class_name"]) for layer in layers}
        self._first = _first_calls(layers, nested) if keras2 else {}

    def tensor(self, name: str, node: int, index: int) -> dict[str, Any]:
        """Return a reference to output `index` of call number `node` of the layer called `name` in the file."""
        history = [self.names[name], node - self._first.get(name, 0), index]
        config = {"shape": [None], "dtype": "float32", "keras_history": history}  # Keras reads the history only
        return {"class_name": "__keras_tensor__", "config": config}

    def node(self, node: Any, place: str) -> dict[str, Any]:
        """Return one call in the form of Keras 3."""
        if isinstance(node, dict):
            args, kwargs = node["args"], node["kwargs"]
            return {"args": self._value(args, place), "kwargs": self._value(kwargs, place)}
        calls = [node] if isinstance(node[0], str) else node
        tensors = [self.tensor(*call[:3]) for call in calls]
        kwargs = {key: value for call in calls for key, value in (call[3] if len(call) > 3 else {}).items()}
        args = tensors if len(tensors) == 1 else [tensors]
        return {"args": args, "kwargs": self._value(kwargs, place)}

    def ends(self, value: Any) -> Any:
        """Return `input_layers` or `output_layers` with the new names."""
        if isinstance(value, dict):
            return {key: self.ends(item) for key, item in value.items()}
        if len(value) == 3 and isinstance(value[0], str):
            name, node, index = value
            # Keras 3 subtracts 1 for functional models itself, as Keras 2 did, but not for sequential ones.
            first = self._first.get(name, 0) if self._kinds[name] == "Sequential" else 0
            return [self.names[name], node - first, index]
        if len(value) == 1 and self._keras2:  # Keras 2 had a list of one where it meant the tensor itself
            return self.ends(value[0])
        return [self.ends(item) for item in value]

    def _value(self, value: Any, place: str) -> Any:
        if isinstance(value, list):
            return [self._value(item, place) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class_name") is None:
            return {key: self._value(item, place) for key, item in value.items()}
        return self._object(value, place)

    def _object(self, value: Mapping[str, Any], place: str) -> Any:
        match value["class_name"]:
            case "__keras_tensor__":
                return self.tensor(*value["config"]["keras_history"])
            case "__tuple__":
                return {"class_name": "__tuple__", "items": self._value(value["items"], place)}
            case "__ellipsis__":
                return {"class_name": "__ellipsis__", "config": {}}
            case "__slice__":
                return {"class_name": "__slice__", "config": slice_settings(value["config"], place)}
            case "__tensor__" | "__numpy__":
                return constant(value["config"]["value"])
        raise InputError(f"{place} cannot be loaded: it is called with an object of class {value['class_name']}")


def constant(value: Any) -> Any:
    """Return a number as it is, and a list of numbers in the form in which Keras 3 stores arrays."""
    numbers = np.asarray(value, np.float64)
    if numbers.ndim == 0:
        return float(numbers)
    return {"class_name": "__numpy__", "config": {"value": numbers.tolist(), "dtype": "float32"}}


def slice_settings(value: Mapping[str, Any], place: str) -> dict[str, int | None]:
    """Return start, stop and step of a slice; each is a number or None."""
    settings = {key: value.get(key) for key in ("start", "stop", "step")}
    if any(number is not None and type(number) is not int for number in settings.values()):
        raise InputError(f"{place} cannot be loaded: it takes a slice {settings}, whose ends are not plain numbers")
    return settings


def is_training(node: Any) -> bool:
    """Tell whether a call says `training=True`."""
    if isinstance(node, dict):
        return bool(node["kwargs"].get("training"))
    calls = [node] if isinstance(node[0], str) else node
    return any(len(call) > 3 and bool(call[3].get("training")) for call in calls)


def without_training(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call of a layer with nothing but its input."""
    return {"args": node["args"][:1], "kwargs": {k: v for k, v in node["kwargs"].items() if k != "training"}}


def _first_calls(layers: Sequence[Mapping[str, Any]], nested: Sequence[str]) -> dict[str, int]:
    """Return the number of the first call of each nested model: 1 where Keras 2 counted a call of its own as 0."""
    highest: dict[str, int] = {}
    for layer in layers:
        for name, node in _references(layer["inbound_nodes"]):
            highest[name] = max(highest.get(name, 0), node)
    return {
        str(layer["name"]): 1
        for layer in layers
        if layer["class_name"] in nested and highest.get(str(layer["name"]), 0) >= len(layer["inbound_nodes"])
    }


def _references(value: Any) -> Iterator[tuple[str, int]]:
    """Yield (layer, call) of everything in a node that looks like a reference of Keras 2."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return
    if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
        yield value[0], value[1]
    for item in value:
        yield from _references(item)
