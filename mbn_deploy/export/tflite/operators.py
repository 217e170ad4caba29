"""The builtin operators of TFLite that are written: options table and versions of each.

Versions follow TensorFlow's tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ComputeType = Literal["float", "int8", "int16"]  # of the activations that an op computes on


@dataclass(frozen=True)
class Operator:
    """A builtin operator: the schema's options table, and its version for each type of activations.

    `hybrid_version` is that of float activations with an int8 kernel.
    """

    options: str | None = None
    float_version: int = 1
    int8_version: int = 1
    int16_version: int = 1
    hybrid_version: int = 1

    def version(self, compute_type: ComputeType) -> int:
        """Return the version for activations of `compute_type`."""
        return {"float": self.float_version, "int8": self.int8_version, "int16": self.int16_version}[compute_type]


def _quantizable(options: str | None, int16_version: int = 3) -> Operator:
    """Return an operator with versions 1 (float), 2 (int8) and `int16_version`, as most have them."""
    return Operator(options, int8_version=2, int16_version=int16_version)


# Convolutions of int16 are written with the int8 version, as TensorFlow's own converter does: version 8, which came
# with the field that names the bias type, keeps out interpreters before 2.15, which read the tensor's type instead.
OPERATORS: Mapping[str, Operator] = {
    "CONV_2D": Operator("Conv2DOptions", int8_version=3, int16_version=3, hybrid_version=5),
    "DEPTHWISE_CONV_2D": Operator("DepthwiseConv2DOptions", int8_version=3, int16_version=3, hybrid_version=6),
    "ADD": _quantizable("AddOptions"),
    "MUL": _quantizable("MulOptions", int16_version=4),
    "MAXIMUM": _quantizable("MaximumMinimumOptions", int16_version=4),
    "MINIMUM": _quantizable("MaximumMinimumOptions", int16_version=4),
    "CONCATENATION": _quantizable("ConcatenationOptions"),
    "RELU": _quantizable(None),
    "RELU6": _quantizable(None),
    "LOGISTIC": _quantizable(None),
    "HARD_SWISH": Operator("HardSwishOptions"),
    "TANH": _quantizable(None),
    "LEAKY_RELU": Operator("LeakyReluOptions", int16_version=2),
    "PRELU": Operator(),
    "ELU": Operator(),
    "GELU": Operator("GeluOptions", int8_version=2),
    "LOG_SOFTMAX": Operator("LogSoftmaxOptions", int8_version=2),
    **dict.fromkeys(("ABS", "EXP", "LOG", "NEG"), Operator()),
    "DIV": Operator("DivOptions"),
    "GREATER": Operator("GreaterOptions"),
    "CAST": Operator("CastOptions"),
    "SOFTMAX": _quantizable("SoftmaxOptions"),
    "MEAN": _quantizable("ReducerOptions"),
    "REDUCE_MAX": _quantizable("ReducerOptions"),
    "AVERAGE_POOL_2D": _quantizable("Pool2DOptions"),
    "MAX_POOL_2D": _quantizable("Pool2DOptions"),
    "PAD": _quantizable("PadOptions"),
    "RESHAPE": Operator("ReshapeOptions"),
    "SLICE": _quantizable("SliceOptions", int16_version=4),
    "STRIDED_SLICE": _quantizable("StridedSliceOptions", int16_version=4),
    "TRANSPOSE": _quantizable("TransposeOptions", int16_version=5),
    "RESIZE_BILINEAR": Operator("ResizeBilinearOptions", float_version=3, int8_version=3, int16_version=4),
    "RESIZE_NEAREST_NEIGHBOR": Operator(
        "ResizeNearestNeighborOptions", float_version=3, int8_version=3, int16_version=4
    ),
    "SUB": Operator("SubOptions"),
    "RSQRT": Operator(),
    "L2_NORMALIZATION": Operator("L2NormOptions"),
}

# DEQUANTIZE by what it reads; QUANTIZE by what it writes.
DEQUANTIZE_VERSIONS = {"uint8": 1, "int8": 2, "int16": 3, "float16": 3}
QUANTIZE_VERSIONS = {"uint8": 1, "int8": 1, "int16": 2}
