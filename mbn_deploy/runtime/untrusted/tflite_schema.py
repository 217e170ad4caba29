"""The parts of TensorFlow Lite's schema.fbs (version 3) that are checked, as tables.

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


class OpArity(NamedTuple):
    """`code` of BuiltinOperator; how many inputs (the first `needed` must be there), and how many outputs at most."""

    code: int
    needed: int
    inputs: int
    outputs: int = 1


# The ops that image classifiers are made of. Control flow, which may never end, tables, variables and sequences are
# left out: interpreters run them, but not for a file of unknown origin.
OPERATIONS: dict[str, OpArity] = {
    "ABS": OpArity(101, 1, 1),
    "ADD": OpArity(0, 2, 2),
    "ADD_N": OpArity(106, 1, MANY),
    "ARG_MAX": OpArity(56, 2, 2),
    "AVERAGE_POOL_2D": OpArity(1, 1, 1),
    "BATCH_MATMUL": OpArity(126, 2, 2),
    "BATCH_TO_SPACE_ND": OpArity(37, 3, 3),
    "BROADCAST_TO": OpArity(130, 2, 2),
    "CAST": OpArity(53, 1, 1),
    "CONCATENATION": OpArity(2, 1, MANY),
    "CONV_2D": OpArity(3, 3, 3),
    "DEPTHWISE_CONV_2D": OpArity(4, 3, 3),
    "DEPTH_TO_SPACE": OpArity(5, 1, 1),
    "DEQUANTIZE": OpArity(6, 1, 1),
    "DIV": OpArity(42, 2, 2),
    "ELU": OpArity(111, 1, 1),
    "EXP": OpArity(47, 1, 1),
    "EXPAND_DIMS": OpArity(70, 2, 2),
    "FILL": OpArity(94, 2, 2),
    "FULLY_CONNECTED": OpArity(9, 2, 3),
    "GATHER": OpArity(36, 2, 2),
    "GELU": OpArity(150, 1, 1),
    "GREATER": OpArity(61, 2, 2),
    "HARD_SWISH": OpArity(117, 1, 1),
    "L2_NORMALIZATION": OpArity(11, 1, 1),
    "LEAKY_RELU": OpArity(98, 1, 1),
    "LOCAL_RESPONSE_NORMALIZATION": OpArity(13, 1, 1),
    "LOG": OpArity(73, 1, 1),
    "LOGISTIC": OpArity(14, 1, 1),
    "LOG_SOFTMAX": OpArity(50, 1, 1),
    "MAXIMUM": OpArity(55, 2, 2),
    "MAX_POOL_2D": OpArity(17, 1, 1),
    "MEAN": OpArity(40, 2, 2),
    "MINIMUM": OpArity(57, 2, 2),
    "MIRROR_PAD": OpArity(100, 2, 2),
    "MUL": OpArity(18, 2, 2),
    "NEG": OpArity(59, 1, 1),
    "PACK": OpArity(83, 1, MANY),
    "PAD": OpArity(34, 2, 2),
    "PADV2": OpArity(60, 3, 3),
    "POW": OpArity(78, 2, 2),
    "PRELU": OpArity(54, 2, 2),
    "QUANTIZE": OpArity(114, 1, 1),
    "REDUCE_MAX": OpArity(82, 2, 2),
    "REDUCE_MIN": OpArity(89, 2, 2),
    "RELU": OpArity(19, 1, 1),
    "RELU6": OpArity(21, 1, 1),
    "RELU_0_TO_1": OpArity(152, 1, 1),
    "RELU_N1_TO_1": OpArity(20, 1, 1),
    "RESHAPE": OpArity(22, 1, 2),
    "RESIZE_BILINEAR": OpArity(23, 2, 2),
    "RESIZE_NEAREST_NEIGHBOR": OpArity(97, 2, 2),
    "RSQRT": OpArity(76, 1, 1),
    "SHAPE": OpArity(77, 1, 1),
    "SLICE": OpArity(65, 3, 3),
    "SOFTMAX": OpArity(25, 1, 1),
    "SPACE_TO_BATCH_ND": OpArity(38, 3, 3),
    "SPACE_TO_DEPTH": OpArity(26, 1, 1),
    "SPLIT": OpArity(49, 2, 2, MANY),
    "SPLIT_V": OpArity(102, 3, 3, MANY),
    "SQRT": OpArity(75, 1, 1),
    "SQUARE": OpArity(92, 1, 1),
    "SQUARED_DIFFERENCE": OpArity(99, 2, 2),
    "SQUEEZE": OpArity(43, 1, 1),
    "STRIDED_SLICE": OpArity(45, 4, 4),
    "SUB": OpArity(41, 2, 2),
    "SUM": OpArity(74, 2, 2),
    "TANH": OpArity(28, 1, 1),
    "TILE": OpArity(69, 2, 2),
    "TRANSPOSE": OpArity(39, 2, 2),
    "TRANSPOSE_CONV": OpArity(67, 3, 4),
    "UNPACK": OpArity(88, 1, 1, MANY),
}

NAMES = {operation.code: name for name, operation in OPERATIONS.items()}

# The other operations of BuiltinOperator, for messages.
OTHER_NAMES = {
    7: "EMBEDDING_LOOKUP", 8: "FLOOR", 10: "HASHTABLE_LOOKUP", 12: "L2_POOL_2D", 15: "LSH_PROJECTION", 16: "LSTM",
    24: "RNN", 27: "SVDF", 29: "CONCAT_EMBEDDINGS", 30: "SKIP_GRAM", 31: "CALL", 33: "EMBEDDING_LOOKUP_SPARSE",
    35: "UNIDIRECTIONAL_SEQUENCE_RNN", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 46: "BIDIRECTIONAL_SEQUENCE_RNN",
    48: "TOPK_V2", 51: "DELEGATE", 52: "BIDIRECTIONAL_SEQUENCE_LSTM", 58: "LESS", 62: "GREATER_EQUAL",
    63: "LESS_EQUAL", 64: "SELECT", 66: "SIN", 68: "SPARSE_TO_DENSE", 71: "EQUAL", 72: "NOT_EQUAL", 79: "ARG_MIN",
    80: "FAKE_QUANT", 81: "REDUCE_PROD", 84: "LOGICAL_OR", 85: "ONE_HOT", 86: "LOGICAL_AND", 87: "LOGICAL_NOT",
    90: "FLOOR_DIV", 91: "REDUCE_ANY", 93: "ZEROS_LIKE", 95: "FLOOR_MOD", 96: "RANGE", 103: "UNIQUE", 104: "CEIL",
    105: "REVERSE_V2", 107: "GATHER_ND", 108: "COS", 109: "WHERE", 110: "RANK", 112: "REVERSE_SEQUENCE",
    113: "MATRIX_DIAG", 115: "MATRIX_SET_DIAG", 116: "ROUND", 118: "IF", 119: "WHILE", 120: "NON_MAX_SUPPRESSION_V4",
    121: "NON_MAX_SUPPRESSION_V5", 122: "SCATTER_ND", 123: "SELECT_V2", 124: "DENSIFY", 125: "SEGMENT_SUM",
    128: "CUMSUM", 129: "CALL_ONCE", 131: "RFFT2D", 132: "CONV_3D", 133: "IMAG", 134: "REAL", 135: "COMPLEX_ABS",
    136: "HASHTABLE", 137: "HASHTABLE_FIND", 138: "HASHTABLE_IMPORT", 139: "HASHTABLE_SIZE", 140: "REDUCE_ALL",
    141: "CONV_3D_TRANSPOSE", 142: "VAR_HANDLE", 143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE", 145: "BROADCAST_ARGS",
    146: "RANDOM_STANDARD_NORMAL", 147: "BUCKETIZE", 148: "RANDOM_UNIFORM", 149: "MULTINOMIAL",
    151: "DYNAMIC_UPDATE_SLICE", 153: "UNSORTED_SEGMENT_PROD", 154: "UNSORTED_SEGMENT_MAX",
    155: "UNSORTED_SEGMENT_SUM", 156: "ATAN2", 157: "UNSORTED_SEGMENT_MIN", 158: "SIGN", 159: "BITCAST",
    160: "BITWISE_XOR", 161: "RIGHT_SHIFT", 203: "DILATE", 205: "REDUCE_WINDOW",
}  # fmt: skip
