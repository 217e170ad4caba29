"""Operations without a layer: where Keras 3 has them, and what TensorFlow functions in Keras 2 files become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.config_nodes import CONSTANT, Nodes, constant

# The module that Keras 3 itself writes into a file for each operation which the converter knows.
OPERATION_MODULES: dict[str, str] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Clip"), "keras.src.ops.numpy"),
    **dict.fromkeys(("Relu", "Relu6", "HardSilu", "HardSigmoid", "Sigmoid", "Silu", "Softmax"), "keras.src.ops.nn"),
    "ReLU": "keras.src.activations.activations",
}

_BINARY = {
    "__operators__.add": "Add",
    "math.add": "Add",
    "__operators__.sub": "Subtract",
    "math.subtract": "Subtract",
    "__operators__.mul": "Multiply",
    "math.multiply": "Multiply",
    "__operators__.truediv": "Divide",
    "math.truediv": "Divide",
    "math.divide": "Divide",
}
_UNARY = {
    "nn.relu": "Relu",
    "nn.relu6": "Relu6",
    "math.sigmoid": "Sigmoid",
    "nn.sigmoid": "Sigmoid",
    "nn.silu": "Silu",
    "nn.swish": "Silu",
    "nn.softmax": "Softmax",
    "math.negative": "Negative",
    "clip_by_value": "Clip",
}
Refuse = Callable[[str], InputError]


def operation_of(layer: Mapping[str, Any], nodes: Nodes, refuse: Refuse) -> dict[str, Any]:
    """The Keras 3 operation of a `TFOpLambda` of Keras 2; `refuse` makes the error for one that has none."""
    function = str(layer["config"]["function"])
    if len(layer["inbound_nodes"]) != 1 or not isinstance(layer["inbound_nodes"][0][0], str):
        raise refuse(f"tf.{function} is called in a way that is not known")
    name, node, index, *rest = layer["inbound_nodes"][0]
    options = {key: value for key, value in (rest[0] if rest else {}).items() if key != "name" and value is not None}
    first = constant(index) if name == CONSTANT else nodes.tensor(name, node, index)
    settings: dict[str, Any] = {}
    if function in _BINARY:
        kind, args = _BINARY[function], [first, _operand(options.pop("y", None), nodes, refuse)]
    elif function in _UNARY:
        kind, args = _UNARY[function], [first]
        settings = _settings(kind, options)
    else:
        raise refuse(f"tf.{function} is a function of TensorFlow that is not supported")
    if options:
        raise refuse(f"tf.{function} is called with {options}, which is not supported")
    return {
        "module": OPERATION_MODULES[kind],
        "class_name": kind,
        "config": {"name": nodes.names[str(layer["name"])], **settings},
        "registered_name": kind,
        "inbound_nodes": [{"args": args, "kwargs": {}}],
    }


def _settings(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """What Keras 3 has in the operation itself; taken out of `options`."""
    if kind == "Clip":
        return {"x_min": options.pop("clip_value_min"), "x_max": options.pop("clip_value_max")}
    return {"axis": options.pop("axis", -1)} if kind == "Softmax" else {}


def _operand(value: Any, nodes: Nodes, refuse: Refuse) -> Any:
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        return nodes.tensor(*value)
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        raise refuse(f"its second operand is {value!r}, neither a tensor nor a number")
    return constant(value)
