"""The parts of TensorFlow Lite's schema.fbs (version 3) that are checked, as tables.

Fields stand in the order of their declaration. A field is a number of so many bytes (`4`), `string`, a table
(`Tensor`), a vector of one of them (`[4]`, `[Tensor]`), or a `union`, whose table is checked without its fields.
"""

from __future__ import annotations

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

# Options by their number in the union, of the operations that image classifiers are made of; those that are not here
# are checked as far as their own table reaches.
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
