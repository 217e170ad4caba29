"""What a .tflite file is made of: TensorFlow Lite's schema.fbs (version 3) as far as it is checked, as tables.

Fields stand in the order of their declaration. A field is a number of so many bytes (`4`), `string`, a table
(`Tensor`), a vector of one of them (`[4]`, `[Tensor]`), or a `union`, whose table is checked without its fields.
"""

from __future__ import annotations

from typing import NamedTuple

TABLES: dict[str, tuple[str, ...]] = {
    "Model": (
        "4", "[OperatorCode]", "[SubGraph]", "string", "[Buffer]", "[4]", "[Metadata]", "[SignatureDef]",
    ),
    "OperatorCode": ("1", "string", "4", "4"),
    "SubGraph": ("[Tensor]", "[4]", "[4]", "[Operator]", "string", "4"),
    "Tensor": ("[4]", "1", "4", "string", "Quantization", "1", "Sparsity", "[4]", "1", "[Variant]", "4"),
    "Quantization": ("[4]", "[4]", "[4]", "[8]", "1", "union", "4"),
    "Sparsity": ("[4]", "[4]", "[Dimension]"),
    "Dimension": ("1", "4", "1", "union", "1", "union"),
    "Variant": ("[4]", "1", "1"),
    "Operator": ("4", "[4]", "[4]", "1", "union", "[1]", "1", "[1]", "[4]", "8", "8", "1", "union", "4"),
    "Buffer": ("[1]", "8", "8"),
    "Metadata": ("string", "4"),
    "SignatureDef": ("[TensorMap]", "[TensorMap]", "string", "string", "4"),
    "TensorMap": ("string", "4"),
}  # fmt: skip

# Options by their number in the union; those that are not here are read by no kernel in `OPERATIONS` or hold
# single bytes.
OPTIONS: dict[int, tuple[str, ...]] = {
    1: ("1", "4", "4", "1", "4", "4", "1"),  # Conv2DOptions
    2: ("1", "4", "4", "4", "1", "4", "4"),  # DepthwiseConv2DOptions
    5: ("1", "4", "4", "4", "4", "1"),  # Pool2DOptions
    8: ("1", "1", "1", "1", "1"),  # FullyConnectedOptions
    9: ("4",),  # SoftmaxOptions
    10: ("4", "1"),  # ConcatenationOptions
    13: ("4", "4", "4", "4"),  # LocalResponseNormalizationOptions
    17: ("[4]",),  # ReshapeOptions
    19: ("4",),  # SpaceToDepthOptions
    23: ("4", "4"),  # GatherOptions
    27: ("1",),  # ReducerOptions
    30: ("[4]",),  # SqueezeOptions
    32: ("4", "4", "4", "4", "4", "1"),  # StridedSliceOptions
    35: ("4",),  # SplitOptions
    49: ("1", "4", "4", "1", "1"),  # TransposeConvOptions
    59: ("4", "4"),  # PackOptions
    64: ("4", "4"),  # UnpackOptions
    75: ("4",),  # LeakyReluOptions
    79: ("4",),  # SplitVOptions
    94: ("4",),  # DepthToSpaceOptions
}

MANY = 1024


class Operation(NamedTuple):
    """`code` of BuiltinOperator; how many inputs (the first `needed` must be there), and how many outputs at most."""

    code: int
    needed: int
    inputs: int
    outputs: int = 1


# What classifiers of pictures are made of. Control flow, which could go on without end, tables, variables and
# sequences are left out: interpreters run them, a file of unknown origin does not get to.
OPERATIONS: dict[str, Operation] = {
    "ABS": Operation(101, 1, 1),
    "ADD": Operation(0, 2, 2),
    "ADD_N": Operation(106, 1, MANY),
    "ARG_MAX": Operation(56, 2, 2),
    "AVERAGE_POOL_2D": Operation(1, 1, 1),
    "BATCH_MATMUL": Operation(126, 2, 2),
    "BATCH_TO_SPACE_ND": Operation(37, 3, 3),
    "BROADCAST_TO": Operation(130, 2, 2),
    "CAST": Operation(53, 1, 1),
    "CONCATENATION": Operation(2, 1, MANY),
    "CONV_2D": Operation(3, 3, 3),
    "DEPTHWISE_CONV_2D": Operation(4, 3, 3),
    "DEPTH_TO_SPACE": Operation(5, 1, 1),
    "DEQUANTIZE": Operation(6, 1, 1),
    "DIV": Operation(42, 2, 2),
    "ELU": Operation(111, 1, 1),
    "EXP": Operation(47, 1, 1),
    "EXPAND_DIMS": Operation(70, 2, 2),
    "FILL": Operation(94, 2, 2),
    "FULLY_CONNECTED": Operation(9, 2, 3),
    "GATHER": Operation(36, 2, 2),
    "GELU": Operation(150, 1, 1),
    "HARD_SWISH": Operation(117, 1, 1),
    "L2_NORMALIZATION": Operation(11, 1, 1),
    "LEAKY_RELU": Operation(98, 1, 1),
    "LOCAL_RESPONSE_NORMALIZATION": Operation(13, 1, 1),
    "LOG": Operation(73, 1, 1),
    "LOGISTIC": Operation(14, 1, 1),
    "LOG_SOFTMAX": Operation(50, 1, 1),
    "MAXIMUM": Operation(55, 2, 2),
    "MAX_POOL_2D": Operation(17, 1, 1),
    "MEAN": Operation(40, 2, 2),
    "MINIMUM": Operation(57, 2, 2),
    "MIRROR_PAD": Operation(100, 2, 2),
    "MUL": Operation(18, 2, 2),
    "NEG": Operation(59, 1, 1),
    "PACK": Operation(83, 1, MANY),
    "PAD": Operation(34, 2, 2),
    "PADV2": Operation(60, 3, 3),
    "POW": Operation(78, 2, 2),
    "PRELU": Operation(54, 2, 2),
    "QUANTIZE": Operation(114, 1, 1),
    "REDUCE_MAX": Operation(82, 2, 2),
    "REDUCE_MIN": Operation(89, 2, 2),
    "RELU": Operation(19, 1, 1),
    "RELU6": Operation(21, 1, 1),
    "RELU_0_TO_1": Operation(152, 1, 1),
    "RELU_N1_TO_1": Operation(20, 1, 1),
    "RESHAPE": Operation(22, 1, 2),
    "RESIZE_BILINEAR": Operation(23, 2, 2),
    "RESIZE_NEAREST_NEIGHBOR": Operation(97, 2, 2),
    "RSQRT": Operation(76, 1, 1),
    "SHAPE": Operation(77, 1, 1),
    "SLICE": Operation(65, 3, 3),
    "SOFTMAX": Operation(25, 1, 1),
    "SPACE_TO_BATCH_ND": Operation(38, 3, 3),
    "SPACE_TO_DEPTH": Operation(26, 1, 1),
    "SPLIT": Operation(49, 2, 2, MANY),
    "SPLIT_V": Operation(102, 3, 3, MANY),
    "SQRT": Operation(75, 1, 1),
    "SQUARE": Operation(92, 1, 1),
    "SQUARED_DIFFERENCE": Operation(99, 2, 2),
    "SQUEEZE": Operation(43, 1, 1),
    "STRIDED_SLICE": Operation(45, 4, 4),
    "SUB": Operation(41, 2, 2),
    "SUM": Operation(74, 2, 2),
    "TANH": Operation(28, 1, 1),
    "TILE": Operation(69, 2, 2),
    "TRANSPOSE": Operation(39, 2, 2),
    "TRANSPOSE_CONV": Operation(67, 3, 4),
    "UNPACK": Operation(88, 1, 1, MANY),
}

NAMES = {operation.code: name for name, operation in OPERATIONS.items()}
