"""Folded graphs become .tflite files: float32, float16, dynamic-range, full-integer int8 and int16x8.

One walk over the ops serves every precision; a `Storage` says how activations and weights lie in
the file. Tensors of rank 2 are kept as (N, 1, 1, C) until the last op, and a dense layer is a 1x1
convolution: per-channel int8 weights of FULLY_CONNECTED are not understood by interpreters before
2.15 (they would use one scale for all channels without a word), those of CONV_2D by all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import ModelBuilder
from mbn_deploy.export.tflite.storage import (
    DynamicStorage,
    Float16Storage,
    Float32Storage,
    Form,
    Int8Storage,
    Storage,
    float_constant,
    kernel_layout,
)
from mbn_deploy.graph.graph import Graph, Op, Shape, same_pads
from mbn_deploy.graph.quantized import QuantizedGraph

FloatPrecision = Literal["float32", "float16", "dynamic"]
InputType = Literal["uint8", "int8", "int16", "float32"]

_Lies = Form | Literal["uint8"]  # how a tensor lies in the file

SIGNATURE_INPUT, SIGNATURE_OUTPUT = "image", "scores"
# ActivationFunctionType of the schema; the clip to [0, 1] is the saturation of the integers, in int16 at its upper end.
_FUSED = {"none": 0, "relu": 1, "relu6": 3, "unit": 0}
_FUSED_INT16 = _FUSED | {"unit": _FUSED["relu"]}
_SAME, _VALID = 0, 1

# Operator versions (TensorFlow: tensorflow/lite/tools/versioning/op_version.cc), float, int8 and int16. The
# convolutions of int16 have that of int8, as TensorFlow's own converter writes them: version 8, which is due to
# the field that names the bias type, keeps out interpreters before 2.15, which read the tensor's type instead.
_VERSIONS: dict[str, tuple[int, int, int]] = {
    "CONV_2D": (1, 3, 3),
    "DEPTHWISE_CONV_2D": (1, 3, 3),
    "ADD": (1, 2, 3),
    "MUL": (1, 2, 4),
    "MEAN": (1, 2, 3),
    "REDUCE_MAX": (1, 2, 3),
    "RELU": (1, 2, 3),
    "RELU6": (1, 2, 3),
    "LOGISTIC": (1, 2, 3),
    "SOFTMAX": (1, 2, 3),
    "AVERAGE_POOL_2D": (1, 2, 3),
    "MAX_POOL_2D": (1, 2, 3),
    "PAD": (1, 2, 3),
}
_COLUMN: dict[Form, int] = {"float": 0, "int8": 1, "int16": 2}
_DEQUANTIZE_VERSIONS = {"uint8": 1, "int8": 2, "int16": 3}
_HYBRID_VERSIONS = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6}


def write_tflite(graph: Graph, precision: FloatPrecision, *, metadata: Mapping[str, bytes] | None = None) -> bytes:
    """A .tflite file with float32 input and output, of the folded `graph` (NHWC, static batch).

    `float16` stores weights in half precision and dequantizes them when the file is opened;
    `dynamic` stores kernels of at least 1024 values as per-channel int8 (scale per output channel).
    `metadata` goes into the file's metadata table. Raises `InputError` for ops that TFLite lacks.
    """
    storages: dict[FloatPrecision, Callable[[], Storage]] = {
        "float32": Float32Storage,
        "float16": Float16Storage,
        "dynamic": DynamicStorage,
    }
    walk = _Walk(graph, storages[precision]())
    walk.input(walk.build.tensor(graph.input, graph.shapes[graph.input], "float32"), "float")
    walk.ops()
    output = walk.logical(graph.output)
    return walk.finish(walk.indices[graph.input], output, metadata)


def write_tflite_int8(
    quantized: QuantizedGraph, *, input_dtype: InputType = "uint8", metadata: Mapping[str, bytes] | None = None
) -> bytes:
    """A full-integer .tflite file: every op between input and output computes in integers.

    `input_dtype` is the type of both ends. int8: nothing stands in front of the first
    convolution. uint8 and float32: one QUANTIZE in front, one QUANTIZE or DEQUANTIZE at the end.
    Where the first op has activations of 16 bits, int16 is the type that needs nothing in front; an
    output of 16 bits stays int16 but for float32, since no kernel makes uint8 of it.
    """
    graph = quantized.graph
    walk = _Walk(graph, Int8Storage(quantized))
    params = (quantized.wide if input_dtype == "int16" else quantized.activations)[graph.input]
    source = walk.boundary(graph.input, graph.shapes[graph.input], input_dtype, params.scale, params.zero_point)
    walk.input(source, "float" if input_dtype == "float32" else input_dtype)
    walk.ops()
    return walk.finish(source, _outer_output(walk, quantized, input_dtype), metadata)


def _outer_output(walk: _Walk, quantized: QuantizedGraph, dtype: InputType) -> int:
    """The file's output in the type `dtype`, behind one conversion where the last op gives another."""
    name = quantized.graph.output
    inner, form = walk.logical(name), walk.forms[name]
    if form == ("float" if dtype == "float32" else dtype) or (form == "int16" and dtype != "float32"):
        return inner
    params = quantized.output_params
    outer = walk.boundary(f"{name}/{dtype}", quantized.graph.shapes[name], dtype, params.scale, params.zero_point)
    code, version = ("DEQUANTIZE", _DEQUANTIZE_VERSIONS[form]) if dtype == "float32" else ("QUANTIZE", 1)
    kind = "DequantizeOptions" if dtype == "float32" else "QuantizeOptions"
    walk.build.operator(code, [inner], [outer], version, options_type=kind)
    return outer


class _Walk:
    """State of one file being written: which tensor of the graph has which index and shape in the file."""

    def __init__(self, graph: Graph, storage: Storage) -> None:
        self.graph, self.storage = graph, storage
        self.build = ModelBuilder(graph.name)
        self.writers = graph.writers()
        self.indices: dict[str, int] = {}
        self.forms: dict[str, _Lies] = {}
        self.shapes: dict[str, Shape] = {}
        self._converted: dict[tuple[str, Form], int] = {}

    def input(self, index: int, form: _Lies) -> None:
        self.indices[self.graph.input] = index
        self.forms[self.graph.input] = form
        self.shapes[self.graph.input] = self.graph.shapes[self.graph.input]

    def form(self, op: Op) -> Form:
        """In what `op` computes."""
        return self.storage.form(op)

    def fused(self, op: Op) -> int:
        """The activation that `op` has in the file."""
        return (_FUSED_INT16 if self.form(op) == "int16" else _FUSED)[op.activation]

    def source(self, op: Op, at: int = 0) -> int:
        """The op's input number `at` in the form that it computes in, converted once where it lies in another."""
        name, form = op.inputs[at], self.form(op)
        if self.forms[name] == form:
            return self.indices[name]
        if (name, form) not in self._converted:
            self._converted[name, form] = self._convert(name, op)
        return self._converted[name, form]

    def _convert(self, name: str, reader: Op) -> int:
        shape, form = self.shapes[name], self.form(reader)
        if form == "float":
            result = self.build.tensor(f"{name}/float", shape, "float32")
            version = _DEQUANTIZE_VERSIONS[self.forms[name]]
            self.build.operator("DEQUANTIZE", [self.indices[name]], [result], version, options_type="DequantizeOptions")
            return result
        result = self.storage.quantized_tensor(self.build, f"{name}/{form}", reader, name, shape)
        version = 2 if form == "int16" else 1
        self.build.operator("QUANTIZE", [self.indices[name]], [result], version, options_type="QuantizeOptions")
        return result

    def boundary(self, name: str, shape: Shape, dtype: InputType, scale: float, zero_point: int) -> int:
        """An input or output tensor of the file in the type that the caller wants to see."""
        if dtype == "float32":
            return self.build.tensor(name, shape, "float32")
        shift = 128 if dtype == "uint8" else 0
        return self.build.tensor(name, shape, dtype, scale=[scale], zero_point=zero_point + shift)

    def sums(self, op: Op, bias: int) -> dict[str, int]:
        """The option by which interpreters since 2.15 know the type in which a convolution of int16 sums up."""
        return {"quantizedBiasType": self.build.type(bias)} if self.form(op) == "int16" else {}

    def finish(self, source: int, result: int, metadata: Mapping[str, bytes] | None) -> bytes:
        from mbn_deploy.version import __version__

        description = f"{self.graph.name}, written by mbn-deploy {__version__}"
        return self.build.finish({SIGNATURE_INPUT: source}, {SIGNATURE_OUTPUT: result}, metadata or {}, description)

    def ops(self) -> None:
        for op in self.graph.ops:
            lower = _LOWERINGS.get(op.kind)
            if lower is None or (op.activation == "unit" and self.form(op) == "float"):
                raise InputError(f"layer {op.name!r}: TFLite has no operation for {op.kind!r} ({op.activation})")
            lower(self, op)

    def shape_in_file(self, name: str) -> Shape:
        """(N, C) lies in the file as (N, 1, 1, C)."""
        shape = self.graph.shapes[name]
        return (shape[0], 1, 1, shape[1]) if len(shape) == 2 else shape

    def result(self, op: Op, shape: Shape | None = None) -> int:
        """The op's output tensor, made now."""
        self.shapes[op.output] = shape or self.shape_in_file(op.output)
        self.forms[op.output] = self.form(op)
        self.indices[op.output] = self.tensor(op, op.output, self.shapes[op.output])
        return self.indices[op.output]

    def tensor(self, op: Op, name: str, shape: Shape, params_of: str = "") -> int:
        """A new tensor in the form that `op` computes in, with parameters like its output's if nothing else is said."""
        if self.form(op) == "float":
            return self.build.tensor(name, shape, "float32")
        return self.storage.quantized_tensor(self.build, name, op, params_of or op.output, shape)

    def alias(self, op: Op) -> None:
        """The op changes nothing in the file: its output is its input."""
        self.indices[op.output] = self.source(op)
        self.forms[op.output] = self.form(op)
        self.shapes[op.output] = self.shapes[op.inputs[0]]

    def logical(self, name: str) -> int:
        """The tensor in the shape that the graph says, behind a RESHAPE where the file keeps another one."""
        wanted = self.graph.shapes[name]
        if self.shapes[name] == wanted:
            return self.indices[name]
        op = self.writers[name]
        reshaped = self.tensor(op, name, wanted)
        self.reshape(op, self.indices[name], reshaped, f"{name}/shape")
        return reshaped

    def reshape(self, op: Op, source: int, result: int, name: str) -> None:
        """A RESHAPE to the shape of `result`."""
        data = np.array(self.build.shape(result), np.int32)
        constant = self.build.tensor(name, data.shape, "int32", data=data)
        self.emit(op, "RESHAPE", [source, constant], result, options_type="ReshapeOptions", newShape=data)

    def emit(self, op: Op, code: str, inputs: list[int], output: int, *, hybrid: bool = False, **options: Any) -> None:
        """Append an operator that is a part of `op`."""
        version = _HYBRID_VERSIONS[code] if hybrid else _VERSIONS.get(code, (1, 1, 1))[_COLUMN[self.form(op)]]
        self.build.operator(code, inputs, [output], version, **options)


def _padded_source(walk: _Walk, op: Op, window: tuple[int, int]) -> tuple[int, int]:
    """(tensor, padding mode). What is neither SAME nor VALID gets a PAD, which XNNPACK takes into the convolution."""
    source, shape = walk.source(op), walk.shapes[op.inputs[0]]
    if not any(op.pads):
        return source, _VALID
    same = tuple(pad for i in (0, 1) for pad in same_pads(shape[1 + i], window[i], op.stride[i], op.dilation[i]))
    if op.pads == same:
        return source, _SAME
    if op.kind in ("average_pool", "max_pool"):
        raise InputError(f"layer {op.name!r}: TFLite pools with 'same' or 'valid' padding only, not {op.pads}")
    return _pad(walk, source, shape, op, f"{op.output}/padded"), _VALID


def _pad(walk: _Walk, source: int, shape: Shape, op: Op, name: str) -> int:
    top, bottom, left, right = op.pads
    padded = (shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3])
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    constant = walk.build.tensor(f"{name}/pads", amounts.shape, "int32", data=amounts)
    result = walk.tensor(op, name, padded, op.inputs[0])
    walk.emit(op, "PAD", [source, constant], result, options_type="PadOptions")
    return result


def _strides(op: Op) -> dict[str, Any]:
    return {"strideH": op.stride[0], "strideW": op.stride[1]}


def _dilations(op: Op) -> dict[str, Any]:
    return {"dilationHFactor": op.dilation[0], "dilationWFactor": op.dilation[1]}


def _lower_conv(walk: _Walk, op: Op) -> None:
    kernel = kernel_layout(op, op.weights()[0])
    source, padding = _padded_source(walk, op, (kernel.shape[1], kernel.shape[2]))
    weights, bias, hybrid = walk.storage.weights(walk.build, op, kernel, 0)
    walk.emit(
        op, "CONV_2D", [source, weights, bias], walk.result(op), hybrid=hybrid, options_type="Conv2DOptions",
        padding=padding, fusedActivationFunction=walk.fused(op), **_strides(op), **_dilations(op),
        **walk.sums(op, bias),
    )  # fmt: skip


def _lower_depthwise(walk: _Walk, op: Op) -> None:
    kernel = kernel_layout(op, op.weights()[0])
    source, padding = _padded_source(walk, op, (kernel.shape[1], kernel.shape[2]))
    weights, bias, hybrid = walk.storage.weights(walk.build, op, kernel, 3)
    multiplier = op.weights()[0].shape[3]
    walk.emit(
        op, "DEPTHWISE_CONV_2D", [source, weights, bias], walk.result(op), hybrid=hybrid,
        options_type="DepthwiseConv2DOptions", padding=padding, depthMultiplier=multiplier,
        fusedActivationFunction=walk.fused(op), **_strides(op), **_dilations(op),
    )  # fmt: skip


def _lower_elementwise(walk: _Walk, op: Op) -> None:
    code, kind = {"add": ("ADD", "AddOptions"), "multiply": ("MUL", "MulOptions")}[op.kind]
    sources = [walk.source(op, at) for at in range(len(op.inputs))]
    walk.emit(
        op, code, sources, walk.result(op), options_type=kind, fusedActivationFunction=walk.fused(op),
        **(_general_scales(walk, op) if code == "ADD" else {}),
    )  # fmt: skip


def _lower_add_constant(walk: _Walk, op: Op) -> None:
    sources = [walk.source(op), walk.storage.offset(walk.build, op, f"{op.output}/constant")]
    walk.emit(
        op, "ADD", sources, walk.result(op), options_type="AddOptions", fusedActivationFunction=walk.fused(op),
        **_general_scales(walk, op),
    )  # fmt: skip


def _general_scales(walk: _Walk, op: Op) -> dict[str, bool]:
    """ADD of int16 takes scales for powers of two where nothing else is said."""
    return {"potScaleInt16": False} if walk.form(op) == "int16" else {}


def _lower_unary(walk: _Walk, op: Op) -> None:
    code = {"relu": "RELU", "relu6": "RELU6", "sigmoid": "LOGISTIC", "hard_swish": "HARD_SWISH"}[op.kind]
    kind = "HardSwishOptions" if op.kind == "hard_swish" else None
    walk.emit(op, code, [walk.source(op)], walk.result(op), options_type=kind)


def _lower_hard_sigmoid(walk: _Walk, op: Op) -> None:
    """relu6(x + 3) / 6: TFLite has no op of its own for it."""
    if walk.form(op) != "float":
        raise InputError(f"layer {op.name!r}: a hard sigmoid must be lowered before integers are written")
    shape = walk.shapes[op.inputs[0]]
    inner = walk.build.tensor(f"{op.output}/relu6", shape, "float32")
    three = float_constant(walk.build, f"{op.output}/three", 3.0)
    sixth = float_constant(walk.build, f"{op.output}/sixth", 1 / 6)
    source = walk.source(op)
    walk.emit(op, "ADD", [source, three], inner, options_type="AddOptions", fusedActivationFunction=_FUSED["relu6"])
    walk.emit(op, "MUL", [inner, sixth], walk.result(op), options_type="MulOptions")


def _lower_softmax(walk: _Walk, op: Op) -> None:
    source, wanted = walk.source(op), walk.graph.shapes[op.inputs[0]]
    if walk.shapes[op.inputs[0]] != wanted:
        name = f"{op.inputs[0]}/vector"
        vector = walk.tensor(op, name, wanted, op.inputs[0])
        walk.reshape(op, source, vector, f"{name}/shape")
        source = vector
    result = walk.result(op, walk.graph.shapes[op.output])
    walk.emit(op, "SOFTMAX", [source], result, options_type="SoftmaxOptions", beta=1.0)


def _lower_global_pool(walk: _Walk, op: Op) -> None:
    code = "MEAN" if op.kind == "global_average_pool" else "REDUCE_MAX"
    axes = walk.build.tensor(f"{op.output}/axes", (2,), "int32", data=np.array([1, 2], np.int32))
    sources = [walk.source(op), axes]
    walk.emit(op, code, sources, walk.result(op), options_type="ReducerOptions", keepDims=True)


def _lower_pool(walk: _Walk, op: Op) -> None:
    code = "AVERAGE_POOL_2D" if op.kind == "average_pool" else "MAX_POOL_2D"
    source, padding = _padded_source(walk, op, op.window)
    height, width = op.window
    walk.emit(
        op, code, [source], walk.result(op), options_type="Pool2DOptions", padding=padding,
        filterHeight=height, filterWidth=width, **_strides(op),
    )  # fmt: skip


def _lower_reshape(walk: _Walk, op: Op) -> None:
    shape = walk.shape_in_file(op.output)
    if walk.shapes[op.inputs[0]] == shape:
        walk.alias(op)
        return
    source = walk.source(op)
    walk.reshape(op, source, walk.result(op), f"{op.output}/shape")


def _lower_pad(walk: _Walk, op: Op) -> None:
    walk.shapes[op.output] = walk.graph.shapes[op.output]
    walk.forms[op.output] = walk.form(op)
    source, shape = walk.source(op), walk.shapes[op.inputs[0]]
    walk.indices[op.output] = _pad(walk, source, shape, op, op.output)


_LOWERINGS: dict[str, Callable[[_Walk, Op], None]] = {
    "conv": _lower_conv,
    "depthwise": _lower_depthwise,
    "dense": _lower_conv,
    "add": _lower_elementwise,
    "add_constant": _lower_add_constant,
    "multiply": _lower_elementwise,
    "relu": _lower_unary,
    "relu6": _lower_unary,
    "sigmoid": _lower_unary,
    "hard_swish": _lower_unary,
    "hard_sigmoid": _lower_hard_sigmoid,
    "softmax": _lower_softmax,
    "global_average_pool": _lower_global_pool,
    "global_max_pool": _lower_global_pool,
    "average_pool": _lower_pool,
    "max_pool": _lower_pool,
    "reshape": _lower_reshape,
    "pad": _lower_pad,
}
