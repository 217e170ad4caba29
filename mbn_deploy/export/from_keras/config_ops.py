"""Functions of TensorFlow in Keras 2 files (`TFOpLambda`, `SlicingOpLambda`) become operations of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.config_functions import FUNCTIONS, REQUIRED, Function
from mbn_deploy.export.from_keras.config_nodes import CONSTANT, Nodes, constant, slice_settings
from mbn_deploy.export.from_keras.supported import OPERATIONS

Refuse = Callable[[str], InputError]


FUNCTION_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda"})
_SUBSCRIPT = "__operators__.getitem"  # of a `SlicingOpLambda`


def operation_entry(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of an operation in a Keras 3 configuration, as Keras itself writes it."""
    return {
        "module": OPERATIONS[kind].module,
        "class_name": kind,
        "config": {**settings, "name": name},
        "registered_name": kind,
    }


def operation_of(layer: Mapping[str, Any], nodes: Nodes, refuse: Refuse) -> dict[str, Any]:
    """Return the Keras 3 operation of a `TFOpLambda` or `SlicingOpLambda`.

    `refuse` makes the error for one that has none.
    """
    function_name = str(layer["config"]["function"])
    function = FUNCTIONS.get(function_name) if function_name != _SUBSCRIPT else Function("GetItem")
    if function is None:
        raise refuse(f"tf.{function_name} is a function of TensorFlow that is not supported")
    if len(layer["inbound_nodes"]) != 1 or isinstance(layer["inbound_nodes"][0][0], str) == function.joins:
        raise refuse(f"tf.{function_name} is called in a way that is not known")
    call = layer["inbound_nodes"][0]
    calls = call if function.joins else [call]
    rest = calls[0][3:]
    options = {key: value for key, value in (rest[0] if rest else {}).items() if key != "name" and value is not None}
    tensors = [
        constant(index) if name == CONSTANT else nodes.tensor(name, node, index) for name, node, index, *_ in calls
    ]
    args: list[Any] = [tensors] if function.joins else tensors
    if function.operand is not None:
        args.append(_operand(options.pop(function.operand, None), nodes, refuse))
    if function.numbers is not None:
        args.append(_whole_numbers(options.pop(function.numbers, None), refuse))
    if function_name == _SUBSCRIPT:
        args.append(_subscript(options.pop("slice_spec"), refuse))
    settings = _settings(function, options, refuse)
    entry = operation_entry(function.operation, nodes.names[str(layer["name"])], settings)
    return {**entry, "inbound_nodes": [{"args": args, "kwargs": {}}]}


def _operand(value: Any, nodes: Nodes, refuse: Refuse) -> Any:
    """Return the second operand: a reference to a tensor, or a constant."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        return nodes.tensor(*value)
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        raise refuse(f"its second operand is {value!r}, neither a tensor nor a number")
    return constant(value)


def _settings(function: Function, options: Mapping[str, Any], refuse: Refuse) -> dict[str, Any]:
    """Return the settings of the Keras 3 operation; refuse arguments that are missing or unknown."""
    settings = dict(function.fixed)
    for argument, setting in function.settings.items():
        if argument in options:
            settings[setting.name] = setting.convert(options[argument])
        elif setting.default is REQUIRED:
            raise refuse(f"its argument {argument} is missing, or computed by the model")
        else:
            settings[setting.name] = setting.default
    others = {key: value for key, value in options.items() if key not in function.settings}
    unknown = {key: value for key, value in others.items() if function.ignored.get(key, REQUIRED) != value}
    if unknown:
        raise refuse(f"it is called with {unknown}, which is not supported")
    return settings


def _whole_numbers(value: Any, refuse: Refuse) -> list[int]:
    if not isinstance(value, list) or any(type(number) is not int for number in value):
        raise refuse(f"its indices are {value!r}, not a list of whole numbers")
    return value


def _subscript(value: Any, refuse: Refuse) -> list[Any]:
    """Return a subscript in the form of Keras 3: `...`, slices, numbers and None."""
    keys: list[Any] = []
    for key in value if isinstance(value, list) else [value]:
        if isinstance(key, dict) and key.get("class_name") == "__ellipsis__":
            keys.append({"class_name": "__ellipsis__", "config": {}})
        elif isinstance(key, dict) and "step" in key:
            keys.append({"class_name": "__slice__", "config": slice_settings(key, "a subscript")})
        elif key is None or type(key) is int:
            keys.append(key)
        else:
            raise refuse(f"its subscript has {key!r}, neither a slice nor a number")
    return keys
