"""The rules of each operation of a .tflite file for its inputs, and the shape of its output.

The rules are those of the kernels' Prepare functions (tensorflow/lite/kernels); interpreters ask some of them only,
and later ones of optimised kernels none. `tflite_check` walks over the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table
from mbn_deploy.runtime.formats.tflite_file import TYPE_BYTES

Shape = tuple[int, ...]

FLOAT32, FLOAT16, INT32, UINT8, INT64, INT16, INT8, INT4 = 0, 1, 2, 3, 4, 7, 9, 17
LARGEST_STEP = 4096  # of a window, a stride, a dilation
LARGEST_MULTIPLIER = 256  # of a sum of products, from its scale to the output's: XNNPACK's kernels end there
_QUANTIZED = frozenset({UINT8, INT8, INT16})
# (input, filter) of convolutions and dense layers: floats, weights alone in 8 bits, integers.
_WEIGHTS = frozenset({
    (FLOAT32, FLOAT32), (FLOAT32, FLOAT16), (FLOAT32, INT8), (FLOAT32, UINT8), (FLOAT32, INT4),
    (UINT8, UINT8), (INT8, INT8), (INT8, INT4), (INT16, INT8),
})  # fmt: skip
_BIASES = {FLOAT32: {FLOAT32, FLOAT16}, UINT8: {INT32}, INT8: {INT32}, INT16: {INT32, INT64}}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file; `data` is empty where it is no constant, `free` says that its shape is not all known."""

    name: str
    shape: Shape
    kind: int
    data: bytes
    scales: tuple[float, ...]
    axis: int
    zeros: int
    free: bool

    @property
    def count(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self.count * TYPE_BYTES.get(self.kind, 1)

    def integers(self) -> tuple[int, ...] | None:
        """Return the values of a constant of int32 or int64; None for any other tensor."""
        width = {INT32: 4, INT64: 8}.get(self.kind)
        if not self.data or width is None:
            return None
        places = range(0, len(self.data) - width + 1, width)
        return tuple(int.from_bytes(self.data[i : i + width], "little", signed=True) for i in places)


@dataclass(frozen=True)
class Node:
    """An operation with its tensors (indices: `read`, `written`) and options, of the union's `options_kind`."""

    kind: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options_kind: int
    options: Table | None
    read: tuple[int, ...]
    written: tuple[int, ...]

    def input(self, number: int) -> Tensor:
        """Return an input that must be present."""
        found = self.inputs[number]
        if found is None:
            raise self.wrong("an input is missing")
        return found

    def option(self, field: int, code: str, default: int = 0) -> int:
        """Return a number of the options."""
        return default if self.options is None else self.options.scalar(field, code, default)

    def wrong(self, what: str) -> DamagedError:
        """Return the error that names the op."""
        return DamagedError(f"{self.kind} {self.outputs[0].name!r}: {what}")


def check_node(node: Node) -> int:
    """Check an operation, return its number of multiplications; raises `DamagedError` if it could crash a kernel."""
    for tensor in (*node.inputs, *node.outputs):
        if tensor is not None and tensor.kind in _QUANTIZED and tensor.scales and not all(tensor.scales):
            raise node.wrong(f"{tensor.name!r} has a scale of 0")
    rule = _RULES.get(node.kind, _other)
    return rule(node)


def _made(node: Node, shape: Shape, number: int = 0) -> None:
    """Check that the output has `shape`, if the file states its shape."""
    output = node.outputs[number]
    if not output.free and output.shape != shape:
        raise node.wrong(f"its output would have shape {shape}, not {output.shape}")


def _options(node: Node, kind: int) -> None:
    if node.options is None or node.options_kind != kind:
        raise node.wrong("its options are missing")


def _steps(node: Node, fields: tuple[int, ...]) -> list[int]:
    found = [node.option(field, "i", 1 if field > 3 else 0) for field in fields]
    if not all(1 <= step <= LARGEST_STEP for step in found):
        raise node.wrong(f"windows and steps of {found}")
    return found


def _windows(node: Node, size: Shape, window: tuple[int, int], strides: list[int], dilations: list[int]) -> Shape:
    """(height, width) of what slides over `size`."""
    padding = node.option(0, "b")
    if padding not in (0, 1):
        raise node.wrong(f"padding {padding}")
    found = []
    for length, taps, stride, dilation in zip(size, window, strides, dilations, strict=True):
        reach = (taps - 1) * dilation + 1
        outputs = -(-length // stride) if padding == 0 else (length - reach + stride) // stride
        if taps < 1 or outputs < 1:
            raise node.wrong(f"a window of {window} on {size}")
        found.append(outputs)
    return tuple(found)


def _convolution(node: Node) -> int:
    """CONV_2D: (N, H, W, C) with a filter (outputs, height, width, C / groups)."""
    _options(node, 1)
    source, weights = _weighted(node, 4)
    outputs, height, width, channels = weights.shape
    if channels < 1 or source.shape[3] % channels or outputs % (source.shape[3] // channels or 1):
        raise node.wrong(f"a filter of shape {weights.shape} for {source.shape}")
    strides, dilations = _steps(node, (2, 1)), _steps(node, (5, 4))
    size = _windows(node, source.shape[1:3], (height, width), strides, dilations)
    _made(node, (source.shape[0], *size, outputs))
    _check_bias(node, outputs)
    _check_scales(node, weights, 0)
    return source.shape[0] * math.prod(size) * weights.count


def _depthwise(node: Node) -> int:
    """DEPTHWISE_CONV_2D: (N, H, W, C) with a filter (1, height, width, C * multiplier)."""
    _options(node, 2)
    source, weights = _weighted(node, 4)
    one, height, width, outputs = weights.shape
    if one != 1 or not source.shape[3] or outputs % source.shape[3]:
        raise node.wrong(f"a filter of shape {weights.shape} for {source.shape}")
    multiplier = node.option(3, "i")
    if multiplier not in (0, outputs // source.shape[3]):
        raise node.wrong(f"a depth multiplier of {multiplier}")
    strides, dilations = _steps(node, (2, 1)), _steps(node, (6, 5))
    size = _windows(node, source.shape[1:3], (height, width), strides, dilations)
    _made(node, (source.shape[0], *size, outputs))
    _check_bias(node, outputs)
    _check_scales(node, weights, 3)
    return source.shape[0] * math.prod(size) * weights.count


def _dense(node: Node) -> int:
    """FULLY_CONNECTED: (N, C) with a filter (outputs, C)."""
    _options(node, 8)
    source, weights = _weighted(node, None)
    if len(weights.shape) != 2 or not weights.shape[1] or source.count % weights.shape[1]:
        raise node.wrong(f"a filter of shape {weights.shape} for {source.shape}")
    if node.option(1, "b"):
        raise node.wrong("weights in another order")
    outputs, rows = weights.shape[0], source.count // weights.shape[1]
    if not node.outputs[0].free and node.outputs[0].count != outputs * rows:
        raise node.wrong(f"an output of shape {node.outputs[0].shape}")
    _check_bias(node, outputs)
    _check_scales(node, weights, 0)
    return rows * weights.count


def _weighted(node: Node, rank: int | None) -> tuple[Tensor, Tensor]:
    source, weights, output = node.input(0), node.input(1), node.outputs[0]
    if rank is not None and (len(source.shape) != rank or len(weights.shape) != rank):
        raise node.wrong(f"a filter of shape {weights.shape} for {source.shape}")
    if (source.kind, weights.kind) not in _WEIGHTS or output.kind != source.kind:
        raise node.wrong(f"types {source.kind}, {weights.kind} and {output.kind}")
    if not source.count or not weights.count:
        raise node.wrong("there is nothing to add up")
    return source, weights


def _check_bias(node: Node, outputs: int) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return
    if bias.count != outputs or bias.kind not in _BIASES.get(node.input(0).kind, set()):
        raise node.wrong(f"a bias of shape {bias.shape} and type {bias.kind} for {outputs} outputs")


def _check_scales(node: Node, weights: Tensor, axis: int) -> None:
    """Scales are there, on the right axis, and no sum of products is made larger than kernels can."""
    source, output = node.input(0), node.outputs[0]
    if len(weights.scales) > 1 and (weights.axis != axis or len(weights.scales) != weights.shape[axis]):
        raise node.wrong(f"its filter has scales along axis {weights.axis}")
    if weights.kind in (FLOAT32, FLOAT16):
        return
    if not weights.scales:
        raise node.wrong("its filter has no scale")
    if source.kind == FLOAT32:
        return
    if len(source.scales) != 1 or len(output.scales) != 1:
        raise node.wrong("integers without a scale")
    if max(weights.scales) * source.scales[0] >= LARGEST_MULTIPLIER * output.scales[0]:
        raise node.wrong("its output's scale is too small for what is added up")


def _pool(node: Node) -> int:
    """AVERAGE_POOL_2D and MAX_POOL_2D: (N, H, W, C)."""
    _options(node, 5)
    source = node.input(0)
    if len(source.shape) != 4:
        raise node.wrong(f"an input of shape {source.shape}")
    same_kind(node)
    width, height = (node.option(field, "i") for field in (3, 4))
    strides = _steps(node, (2, 1))
    if not (1 <= width <= LARGEST_STEP and 1 <= height <= LARGEST_STEP):
        raise node.wrong(f"a window of {height} x {width}")
    size = _windows(node, source.shape[1:3], (height, width), strides, [1, 1])
    _made(node, (source.shape[0], *size, source.shape[3]))
    return source.shape[0] * math.prod(size) * source.shape[3] * height * width


def same_kind(node: Node) -> None:
    """Check that input and output have the same type."""
    kinds = {tensor.kind for tensor in (*node.inputs, *node.outputs) if tensor is not None}
    if len(kinds) > 1:
        raise node.wrong(f"types {sorted(kinds)}")
    if kinds & _QUANTIZED and any(len(t.scales) > 1 for t in (*node.inputs, *node.outputs) if t is not None):
        raise node.wrong("a scale for each channel of what flows")


def _pointwise(node: Node) -> int:
    """One input of any shape, and the output like it."""
    same_kind(node)
    _made(node, node.input(0).shape)
    return node.input(0).count


def _converted(node: Node) -> int:
    """Check a pointwise operation whose output has another type."""
    source, output = node.input(0), node.outputs[0]
    _made(node, source.shape)
    integers = {"QUANTIZE": output, "DEQUANTIZE": source}.get(node.kind)
    if integers is not None and integers.kind != FLOAT16 and not integers.scales:
        raise node.wrong("integers without a scale")
    if node.kind == "DEQUANTIZE" and (output.kind != FLOAT32 or source.kind == FLOAT32):
        raise node.wrong(f"types {source.kind} and {output.kind}")
    if node.kind == "QUANTIZE" and output.kind not in _QUANTIZED:
        raise node.wrong(f"types {source.kind} and {output.kind}")
    return source.count


def _broadcast(node: Node) -> int:
    """Two inputs, axes of length 1 stretched."""
    same_kind(node)
    first, second = node.input(0).shape, node.input(1).shape
    rank = max(len(first), len(second))
    padded = ((1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second)
    if any(a != b and 1 not in (a, b) for a, b in zip(*padded, strict=True)):
        raise node.wrong(f"shapes {first} and {second}")
    shape = tuple(b if a == 1 else a for a, b in zip(*padded, strict=True))
    _made(node, shape)
    return math.prod(shape)


def _reshaped(node: Node) -> int:
    """Check an output with as many values as the input."""
    source, output = node.input(0), node.outputs[0]
    if source.kind != output.kind:
        raise node.wrong(f"types {source.kind} and {output.kind}")
    if not output.free and source.count != output.count:
        raise node.wrong(f"{source.shape} does not become {output.shape}")
    shape = None if len(node.inputs) < 2 or node.inputs[1] is None else node.inputs[1].integers()
    if shape is not None and any(n < -1 or n > source.count for n in shape):
        raise node.wrong(f"a shape of {shape}")
    return 0


def _reduced(node: Node) -> int:
    """Axes that are constants disappear, or keep length 1."""
    source, axes = node.input(0), node.input(1).integers()
    rank = len(source.shape)
    if axes is None or not all(-rank <= axis < rank for axis in axes):
        raise node.wrong(f"axes {axes} of {source.shape}")
    if source.kind != node.outputs[0].kind or 0 in source.shape:
        raise node.wrong(f"{source.shape} of types {source.kind} and {node.outputs[0].kind}")
    gone = {axis % rank for axis in axes}
    keep = node.option(0, "b")
    sizes = (1 if axis in gone else n for axis, n in enumerate(source.shape) if keep or axis not in gone)
    _made(node, tuple(sizes))
    return source.count


def _padded(node: Node) -> int:
    """(before, after) for every axis, constants."""
    source, amounts = node.input(0), node.input(1).integers()
    rank = len(source.shape)
    if amounts is None or len(amounts) != 2 * rank or not all(0 <= n <= LARGEST_STEP for n in amounts):
        raise node.wrong(f"amounts {amounts} for {source.shape}")
    if source.kind != node.outputs[0].kind:
        raise node.wrong(f"types {source.kind} and {node.outputs[0].kind}")
    sizes = (n + amounts[2 * axis] + amounts[2 * axis + 1] for axis, n in enumerate(source.shape))
    _made(node, tuple(sizes))
    return 0


def _concatenated(node: Node) -> int:
    same_kind(node)
    first = node.input(0).shape
    axis = node.option(0, "i")
    if not -len(first) <= axis < len(first):
        raise node.wrong(f"axis {axis} of {first}")
    axis %= len(first)
    length = 0
    for number in range(len(node.inputs)):
        shape = node.input(number).shape
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise node.wrong(f"shapes {first} and {shape}")
        length += shape[axis]
    _made(node, (*first[:axis], length, *first[axis + 1 :]))
    return 0


def _other(node: Node) -> int:
    """Check other ops: inputs that determine the size of the output must be constants, and small."""
    for number, tensor in enumerate(node.inputs):
        if tensor is None or number == 0 or node.kind in _NUMBERS_FREE:
            continue
        values = tensor.integers()
        if tensor.kind in (INT32, INT64) and values is None:
            raise node.wrong("its amounts are no constants")
        if values is not None and not all(abs(n) <= _LARGEST_AMOUNT for n in values):
            raise node.wrong("an amount is too large")
    if node.kind in ("FILL", "TRANSPOSE_CONV"):
        values = node.input(0).integers()
        if values is None or not all(0 < n <= LARGEST_STEP for n in values):
            raise node.wrong("its shape is no constant, or too large")
    return 9 * sum(tensor.count for tensor in (*node.inputs, *node.outputs) if tensor is not None)


_LARGEST_AMOUNT = 2**20
_NUMBERS_FREE = frozenset({"PACK", "STRIDED_SLICE"})  # numbers in it are what flows; an end may be anything

_RULES: dict[str, Callable[[Node], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(
        (
            "ABS", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "LOG_SOFTMAX", "NEG", "RELU",
            "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT", "SOFTMAX", "SQRT", "SQUARE", "TANH", "L2_NORMALIZATION",
        ),
        _pointwise,
    ),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "CAST"), _converted),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW"), _broadcast),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _reshaped),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduced),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _padded),
    "CONCATENATION": _concatenated,
}  # fmt: skip
