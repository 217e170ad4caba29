"""The table of TensorFlow's functions in Keras 2 files (`TFOpLambda`), with the operations of Keras 3 for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

REQUIRED: Any = object()  # in place of a default: the argument must be given


def _same(value: Any) -> Any:
    return value


class Setting(NamedTuple):
    """An argument of a TensorFlow function that is a setting of the Keras 3 operation, called `name` there."""

    name: str
    default: Any = REQUIRED
    convert: Callable[[Any], Any] = _same


class Function(NamedTuple):
    """The Keras 3 operation of a TensorFlow function; `settings` by the names of TensorFlow's arguments.

    The function takes one tensor, and a list of them if it `joins`. `operand` is the argument that becomes a second
    operand, a tensor or a constant, and `numbers` one that becomes a list of whole numbers. `fixed` are settings that
    are always the same, `ignored` arguments that change nothing if they have this value.
    """

    operation: str
    operand: str | None = None
    numbers: str | None = None
    joins: bool = False
    settings: Mapping[str, Setting] = {}
    fixed: Mapping[str, Any] = {}
    ignored: Mapping[str, Any] = {}


def _binary(operation: str) -> Function:
    return Function(operation, operand="y")


def _reduction(operation: str) -> Function:
    return Function(operation, settings={"axis": Setting("axis", None), "keepdims": Setting("keepdims", default=False)})


def _cuts(value: Any) -> Any:
    """Return sizes of parts as the places where they are cut."""
    return list(itertools.accumulate(value))[:-1] if isinstance(value, list) else value


def _amounts(value: Any) -> Any:
    return [tuple(side) for side in value]


_AXIS = {"axis": Setting("axis", -1)}
_NORMALIZE = Function(
    "Normalize",
    # TensorFlow bounds the square of the norm, Keras 3 the norm.
    settings={"axis": Setting("axis", None), "epsilon": Setting("epsilon", 1e-6, math.sqrt)},
    fixed={"order": 2},
)
_TRANSPOSE = Function("Transpose", settings={"perm": Setting("axes", None)}, ignored={"conjugate": False})
_SQUEEZE = Function("Squeeze", settings={"axis": Setting("axis", None)})
_PAD = Function(
    "Pad",
    settings={"paddings": Setting("pad_width", convert=_amounts), "mode": Setting("mode", "constant", str.lower)},
    ignored={"constant_values": 0},
)
_GATHER = Function(
    "Take",
    numbers="indices",
    settings={"axis": Setting("axis", 0)},
    ignored={"batch_dims": 0, "validate_indices": None},
)

FUNCTIONS: Mapping[str, Function] = {
    **dict.fromkeys(("__operators__.add", "math.add"), _binary("Add")),
    **dict.fromkeys(("__operators__.sub", "math.subtract"), _binary("Subtract")),
    **dict.fromkeys(("__operators__.mul", "math.multiply"), _binary("Multiply")),
    **dict.fromkeys(("__operators__.truediv", "math.truediv", "math.divide"), _binary("Divide")),
    "nn.bias_add": Function("Add", operand="bias", ignored={"data_format": "NHWC"}),
    "nn.relu": Function("Relu"),
    "nn.relu6": Function("Relu6"),
    **dict.fromkeys(("math.sigmoid", "nn.sigmoid"), Function("Sigmoid")),
    **dict.fromkeys(("nn.silu", "nn.swish"), Function("Silu")),
    "nn.softmax": Function("Softmax", settings=_AXIS),
    "nn.log_softmax": Function("LogSoftmax", settings=_AXIS),
    "nn.leaky_relu": Function("LeakyRelu", settings={"alpha": Setting("negative_slope", 0.2)}),
    "nn.gelu": Function("Gelu", settings={"approximate": Setting("approximate", default=False)}),
    "nn.elu": Function("Elu"),
    "nn.selu": Function("Selu"),
    **dict.fromkeys(("math.tanh", "nn.tanh"), Function("Tanh")),
    **dict.fromkeys(("math.softplus", "nn.softplus"), Function("Softplus")),
    "nn.softsign": Function("Softsign"),
    "math.maximum": _binary("Maximum"),
    "math.minimum": _binary("Minimum"),
    "math.abs": Function("Absolute"),
    "math.square": Function("Square"),
    "math.negative": Function("Negative"),
    "clip_by_value": Function(
        "Clip", settings={"clip_value_min": Setting("x_min"), "clip_value_max": Setting("x_max")}
    ),
    "concat": Function("Concatenate", joins=True, settings={"axis": Setting("axis")}),
    "stack": Function("Stack", joins=True, settings={"axis": Setting("axis", 0)}),
    "split": Function(
        "Split",
        settings={"num_or_size_splits": Setting("indices_or_sections", convert=_cuts), "axis": Setting("axis", 0)},
    ),
    "cast": Function("Cast", settings={"dtype": Setting("dtype")}),
    "math.reduce_mean": _reduction("Mean"),
    "math.reduce_sum": _reduction("Sum"),
    "math.reduce_max": _reduction("Max"),
    "math.reduce_min": _reduction("Min"),
    **dict.fromkeys(("math.l2_normalize", "nn.l2_normalize", "linalg.l2_normalize"), _NORMALIZE),
    "reshape": Function("Reshape", settings={"shape": Setting("newshape")}),
    "expand_dims": Function("ExpandDims", settings={"axis": Setting("axis")}),
    **dict.fromkeys(("squeeze", "compat.v1.squeeze"), _SQUEEZE),
    **dict.fromkeys(("transpose", "compat.v1.transpose"), _TRANSPOSE),
    **dict.fromkeys(("pad", "compat.v1.pad"), _PAD),
    **dict.fromkeys(("gather", "compat.v1.gather"), _GATHER),
    "reverse": Function("Flip", settings={"axis": Setting("axis")}),
    "tile": Function("Tile", settings={"multiples": Setting("repeats")}),
    "repeat": Function("Repeat", settings={"repeats": Setting("repeats"), "axis": Setting("axis", None)}),
    "image.resize": Function(
        "Resize",
        settings={
            "size": Setting("size", convert=tuple),
            "method": Setting("interpolation", "bilinear"),
            "antialias": Setting("antialias", default=False),
        },
        ignored={"preserve_aspect_ratio": False},
    ),
    "image.rgb_to_grayscale": Function("RGBToGrayscale"),
    "image.grayscale_to_rgb": Function("Tile", fixed={"repeats": [1, 1, 1, 3]}),
}
