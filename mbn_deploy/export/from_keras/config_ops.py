"""Functions of TensorFlow in Keras 2 files (`TFOpLambda`) become operations of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.config_nodes import CONSTANT, Nodes, constant
from mbn_deploy.export.from_keras.supported import OPERATIONS

Refuse = Callable[[str], InputError]


class _Setting(NamedTuple):
    """An argument of a TensorFlow function that is a setting of the Keras 3 operation, called `name` there."""

    name: str
    default: Any = None  # none means that the argument must be given


class _Function(NamedTuple):
    """The Keras 3 operation of a TensorFlow function; `settings` by the names of TensorFlow's arguments.

    The function takes one tensor, two if it is `binary`, and a list of them if it `joins`.
    """

    operation: str
    binary: bool = False
    joins: bool = False
    settings: Mapping[str, _Setting] = {}


_FUNCTIONS: Mapping[str, _Function] = {
    **dict.fromkeys(("__operators__.add", "math.add"), _Function("Add", binary=True)),
    **dict.fromkeys(("__operators__.sub", "math.subtract"), _Function("Subtract", binary=True)),
    **dict.fromkeys(("__operators__.mul", "math.multiply"), _Function("Multiply", binary=True)),
    **dict.fromkeys(("__operators__.truediv", "math.truediv", "math.divide"), _Function("Divide", binary=True)),
    "nn.relu": _Function("Relu"),
    "nn.relu6": _Function("Relu6"),
    **dict.fromkeys(("math.sigmoid", "nn.sigmoid"), _Function("Sigmoid")),
    **dict.fromkeys(("nn.silu", "nn.swish"), _Function("Silu")),
    "nn.softmax": _Function("Softmax", settings={"axis": _Setting("axis", -1)}),
    "nn.log_softmax": _Function("LogSoftmax", settings={"axis": _Setting("axis", -1)}),
    "nn.leaky_relu": _Function("LeakyRelu", settings={"alpha": _Setting("negative_slope", 0.2)}),
    "nn.gelu": _Function("Gelu", settings={"approximate": _Setting("approximate", default=False)}),
    "nn.elu": _Function("Elu"),
    "nn.selu": _Function("Selu"),
    **dict.fromkeys(("math.tanh", "nn.tanh"), _Function("Tanh")),
    **dict.fromkeys(("math.softplus", "nn.softplus"), _Function("Softplus")),
    "nn.softsign": _Function("Softsign"),
    "math.maximum": _Function("Maximum", binary=True),
    "math.minimum": _Function("Minimum", binary=True),
    "math.abs": _Function("Absolute"),
    "math.square": _Function("Square"),
    "concat": _Function("Concatenate", joins=True, settings={"axis": _Setting("axis")}),
    "math.negative": _Function("Negative"),
    "clip_by_value": _Function(
        "Clip", settings={"clip_value_min": _Setting("x_min"), "clip_value_max": _Setting("x_max")}
    ),
}


def operation_entry(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of an operation in a Keras 3 configuration, as Keras itself writes it."""
    return {
        "module": OPERATIONS[kind].module,
        "class_name": kind,
        "config": {**settings, "name": name},
        "registered_name": kind,
    }


def operation_of(layer: Mapping[str, Any], nodes: Nodes, refuse: Refuse) -> dict[str, Any]:
    """Return the Keras 3 operation of a `TFOpLambda`; `refuse` makes the error for one that has none."""
    function_name = str(layer["config"]["function"])
    function = _FUNCTIONS.get(function_name)
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
    if function.binary:
        args.append(_operand(options.pop("y", None), nodes, refuse))
    settings = {
        setting.name: options.pop(argument) if setting.default is None else options.pop(argument, setting.default)
        for argument, setting in function.settings.items()
    }
    if options:
        raise refuse(f"tf.{function_name} is called with {options}, which is not supported")
    entry = operation_entry(function.operation, nodes.names[str(layer["name"])], settings)
    return {**entry, "inbound_nodes": [{"args": args, "kwargs": {}}]}


def _operand(value: Any, nodes: Nodes, refuse: Refuse) -> Any:
    """Return the second operand: a reference to a tensor, or a constant."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        return nodes.tensor(*value)
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        raise refuse(f"its second operand is {value!r}, neither a tensor nor a number")
    return constant(value)
