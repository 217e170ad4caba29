"""Read the operations of a .tflite file so that they can be run one by one (see `file_graph`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.diagnose.file_graph import FileGraph, FileOp, Run, identity, run_of, with_constants
from mbn_deploy.diagnose.functions import (
    ONE,
    TWO,
    run_concat,
    run_one,
    run_over_channels,
    run_resize,
    run_slice,
    run_slopes,
    run_transpose,
    run_two,
)
from mbn_deploy.export.tflite.inspect import TFLiteReader, computes_shape, damage_as_input_error, indices, numbers
from mbn_deploy.graph.graph import Activation, Interpolation, Op, OpKind, Pads, same_pads
from mbn_deploy.graph.quantized import LIMITS, QuantParams

_KERNEL = "/kernel"  # files of this project call the weights of a layer LAYER/kernel
_FUSED: dict[str, Activation] = {"none": "none", "relu": "relu", "relu6": "relu6"}
_SAME = 0  # Padding of the schema
_UNARY: dict[str, OpKind] = {
    "RELU": "relu", "RELU6": "relu6", "LOGISTIC": "sigmoid", "HARD_SWISH": "hard_swish", "SOFTMAX": "softmax",
    "TANH": "tanh", "ELU": "elu", "LOG_SOFTMAX": "log_softmax",
}  # fmt: skip
_BINARY: dict[str, OpKind] = {"ADD": "add", "MUL": "multiply"}
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_MOVES = frozenset({"RESHAPE", "SQUEEZE"})
_STORES = frozenset({"QUANTIZE", "DEQUANTIZE"})


def read_tflite_graph(data: bytes, where: str) -> FileGraph:
    """Return the first graph of the file. `where` names the file; raises `InputError` if it is damaged."""
    with damage_as_input_error(where):
        return _GraphReader(data).file_graph(where)


class _GraphReader(TFLiteReader):
    """A reader that adds values of constants and runnable operations to what `inspect` reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        seen: dict[str, int] = {}
        self.names: list[str] = []  # made unique: files of other makers may repeat a name
        for tensor in self.tensors:
            count = seen[tensor.name] = seen.get(tensor.name, 0) + 1
            self.names.append(tensor.name if count == 1 else f"{tensor.name}#{count}")
        self.folded: dict[int, Floats] = {}  # constants behind a DEQUANTIZE, as float16 files have them

    def file_graph(self, where: str) -> FileGraph:
        """Return all operations that depend on the input."""
        ops = tuple(op for raw in self.graph.operators or () if (op := self._file_op(raw)) is not None)
        raw = list(self.graph.tensors or ())
        return FileGraph(
            where=where,
            format="tflite",
            input=self.names[self.sources[0]],
            output=self.names[self.results[0]],
            ops=ops,
            shapes={name: indices(t.shape) for name, t in zip(self.names, raw, strict=True)},
            params={
                name: QuantParams(t.scale, t.zero_point or 0, t.dtype)
                for name, t in zip(self.names, self.tensors, strict=True)
                if t.scale and t.dtype in LIMITS  # a scale of 0 means that the tensor is not quantized
            },
        )

    def _file_op(self, raw: Any) -> FileOp | None:
        inputs = [i for i in indices(raw.inputs) if i >= 0]
        output = indices(raw.outputs)[0]
        kind = self._kind(raw)
        if computes_shape(kind, [self.tensors[output]]):
            return None  # they compute shapes, which are fixed here
        if kind in _MOVES:
            inputs = inputs[:1]
        flowing = tuple(self.names[i] for i in inputs if self._value(i) is None)
        if not flowing:
            value = self._value(inputs[0]) if kind == "DEQUANTIZE" and inputs else None
            if value is not None:
                self.folded[output] = value
            return None
        kernel = self._value(inputs[1]) if kind in _WEIGHTED and len(inputs) > 1 else None
        return FileOp(
            layer=self._layer(inputs, output, weighted=kind in _WEIGHTED),
            kind=kind,
            inputs=flowing,
            output=self.names[output],
            run=self._run(raw, kind, inputs, output),
            kernel=None if kernel is None else self._transposed(kernel, kind, inputs),
            depthwise=kind == "DEPTHWISE_CONV_2D",
            moves_only=kind in _MOVES,
        )

    def _layer(self, inputs: Sequence[int], output: int, *, weighted: bool) -> str:
        named = self.tensors[inputs[1]].name if weighted and len(inputs) > 1 else ""
        return named[: named.index(_KERNEL)] if _KERNEL in named else self.names[output]

    def _value(self, index: int) -> Floats | None:
        """Return the real values of a constant, None for a tensor that depends on the input."""
        if index in self.folded:
            return self.folded[index]
        if not self.constant[index]:
            return None
        raw = self.graph.tensors[index]
        dtype = np.dtype(self.tensors[index].dtype)
        buffer = bytes(numbers(self.model.buffers[raw.buffer].data))
        stored = np.frombuffer(buffer, dtype).reshape(indices(raw.shape))
        return _dequantized(stored, raw.quantization)

    def _run(self, raw: Any, kind: str, inputs: list[int], output: int) -> Run | None:
        """Return how to run the operation, None if its kind or one of its options is not known here."""
        fused = _FUSED.get(self._activation(raw, kind)) if kind not in _UNARY else "none"
        if fused is None:
            return None
        if kind in _STORES:
            return identity
        if kind in _MOVES:
            return _reshape(indices(self.graph.tensors[output].shape))
        if kind in _UNARY or kind in ONE:
            return run_one(kind) if kind in ONE else run_of(_op(_UNARY[kind]))
        if kind in TWO:
            return self._two(kind, inputs, fused)
        known: dict[str, Callable[[Any, list[int], Activation], Run | None]] = {
            "CONCATENATION": self._concat, "LEAKY_RELU": self._leaky_relu, "PRELU": self._prelu, "GELU": self._gelu,
            "CONV_2D": self._conv, "DEPTHWISE_CONV_2D": self._depthwise, "FULLY_CONNECTED": self._dense,
            "MEAN": self._global_average, "REDUCE_MAX": self._global_maximum, "PAD": self._pad,
            "AVERAGE_POOL_2D": self._average_pool, "MAX_POOL_2D": self._max_pool,
            "SLICE": self._slice, "STRIDED_SLICE": self._strided_slice, "TRANSPOSE": self._transpose,
            "RESIZE_BILINEAR": self._bilinear,
            "RESIZE_NEAREST_NEIGHBOR": self._nearest, "L2_NORMALIZATION": self._l2,
        }  # fmt: skip
        return known[kind](raw, inputs, fused) if kind in known else None

    def _two(self, kind: str, inputs: list[int], fused: Activation) -> Run | None:
        operands = [self._value(i) for i in inputs]
        if kind in _BINARY:
            return with_constants(operands, run_of(_op(_BINARY[kind], activation=fused)))
        return run_two(kind, operands) if fused == "none" else None

    def _concat(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        operands = [self._value(i) for i in inputs]
        return run_concat(int(raw.builtinOptions.axis), operands) if fused == "none" else None

    def _leaky_relu(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = inputs, fused
        return run_slopes([raw.builtinOptions.alpha])

    def _prelu(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = raw, fused
        slopes = self._value(inputs[1])
        return None if slopes is None else run_slopes(slopes)

    def _gelu(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = inputs, fused
        return run_of(_op("gelu_tanh" if raw.builtinOptions.approximate else "gelu"))

    def _transposed(self, kernel: Floats, kind: str, inputs: list[int]) -> Floats:
        """Return the kernel in the layout of `FileOp`."""
        if kind == "CONV_2D":
            return np.asarray(kernel.transpose(1, 2, 3, 0))
        if kind == "FULLY_CONNECTED":
            return np.ascontiguousarray(kernel.T)
        channels = indices(self.graph.tensors[inputs[0]].shape)[-1]
        return np.asarray(kernel.reshape(*kernel.shape[1:3], channels, -1))

    def _kernel_and_bias(self, kind: str, inputs: list[int]) -> tuple[Floats, Floats] | None:
        kernel = self._value(inputs[1])
        bias = self._value(inputs[2]) if len(inputs) > 2 else np.zeros(1, np.float32)
        return None if kernel is None or bias is None else (self._transposed(kernel, kind, inputs), bias)

    def _conv(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        return self._convolution("conv", "CONV_2D", raw, inputs, fused)

    def _depthwise(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        return self._convolution("depthwise", "DEPTHWISE_CONV_2D", raw, inputs, fused)

    def _convolution(self, kind: OpKind, code: str, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        weights = self._kernel_and_bias(code, inputs)
        if weights is None:
            return None
        kernel, bias = weights
        return run_of(
            _op(kind, kernel=kernel, bias=bias, activation=fused, **self._windowed(raw, inputs, kernel.shape))
        )

    def _dense(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = raw
        weights = self._kernel_and_bias("FULLY_CONNECTED", inputs)
        if weights is None:
            return None
        kernel, bias = weights
        run = run_of(_op("dense", kernel=kernel, bias=bias, activation=fused))
        return lambda values: run([np.asarray(values[0]).reshape(-1, kernel.shape[0])])

    def _windowed(self, raw: Any, inputs: list[int], window: Sequence[int]) -> dict[str, Any]:
        options = raw.builtinOptions
        stride = (int(options.strideH), int(options.strideW))
        dilation = (int(getattr(options, "dilationHFactor", 1)), int(getattr(options, "dilationWFactor", 1)))
        shape = indices(self.graph.tensors[inputs[0]].shape)
        pads: Pads = (0, 0, 0, 0)
        if options.padding == _SAME:
            both = [same_pads(shape[1 + i], window[i], stride[i], dilation[i]) for i in (0, 1)]
            pads = (*both[0], *both[1])
        return {"stride": stride, "dilation": dilation, "pads": pads}

    def _pool(self, kind: OpKind, raw: Any, inputs: list[int], fused: Activation) -> Run:
        options = raw.builtinOptions
        window = (int(options.filterHeight), int(options.filterWidth))
        return run_of(_op(kind, window=window, activation=fused, **self._windowed(raw, inputs, window)))

    def _average_pool(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        return self._pool("average_pool", raw, inputs, fused)

    def _max_pool(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        return self._pool("max_pool", raw, inputs, fused)

    def _global(self, kind: OpKind, raw: Any, inputs: list[int]) -> Run | None:
        axes = self._value(inputs[1])
        over = [] if axes is None else sorted(int(a) for a in np.atleast_1d(axes))
        if over == [len(self.graph.tensors[inputs[0]].shape) - 1] and raw.builtinOptions.keepDims:
            return run_over_channels("MEAN" if kind == "global_average_pool" else "REDUCE_MAX")
        if over != [1, 2]:
            return None
        return run_of(_op(kind, keepdims=bool(raw.builtinOptions.keepDims)))

    def _global_average(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = fused
        return self._global("global_average_pool", raw, inputs)

    def _global_maximum(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = fused
        return self._global("global_max_pool", raw, inputs)

    def _slice(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = raw, fused
        starts, sizes = (self._value(i) for i in inputs[1:3])
        if starts is None or sizes is None or (sizes < 0).any():
            return None
        return run_slice([slice(int(start), int(start + size)) for start, size in zip(starts, sizes, strict=True)][1:])

    def _strided_slice(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = fused
        options = raw.builtinOptions
        given = [self._value(i) for i in inputs[1:4]]
        others = options.beginMask, options.ellipsisMask, options.newAxisMask, options.shrinkAxisMask
        if len(given) != 3 or any(one is None for one in given) or any(others):
            return None
        starts, stops, steps = (one.astype(int).tolist() for one in given if one is not None)
        open_ends = [bool(options.endMask >> axis & 1) for axis in range(len(starts))]
        ends = [None if is_open else stop for stop, is_open in zip(stops, open_ends, strict=True)]
        return run_slice([slice(*one) for one in zip(starts, ends, steps, strict=True)][1:])

    def _transpose(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = raw, fused
        order = self._value(inputs[1])
        return None if order is None else run_transpose([int(axis) for axis in order])

    def _bilinear(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = fused
        return self._resize("bilinear", raw, inputs)

    def _nearest(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = fused
        return self._resize("nearest", raw, inputs)

    def _resize(self, interpolation: Interpolation, raw: Any, inputs: list[int]) -> Run | None:
        size = self._value(inputs[1])
        if size is None or not raw.builtinOptions.halfPixelCenters:
            return None
        return run_resize(interpolation, [int(n) for n in size])

    def _l2(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = raw, inputs
        return run_over_channels("L2_NORMALIZATION") if fused == "none" else None

    def _pad(self, raw: Any, inputs: list[int], fused: Activation) -> Run | None:
        _ = raw, fused
        amounts = self._value(inputs[1])
        if amounts is None or amounts.shape != (4, 2) or amounts[0].any() or amounts[3].any():
            return None
        (top, bottom), (left, right) = amounts[1:3].astype(int).tolist()
        return lambda values: np.pad(np.asarray(values[0]), ((0, 0), (top, bottom), (left, right), (0, 0)))


def _op(kind: OpKind, **fields: Any) -> Op:
    return Op(kind, kind, (), "", **fields)


def _reshape(shape: Sequence[int]) -> Run:
    return lambda values: np.asarray(values[0]).reshape(-1, *shape[1:])


def _dequantized(stored: npt.NDArray[Any], quantization: Any) -> Floats:
    scales = np.asarray(numbers(None if quantization is None else quantization.scale), np.float32)
    if not scales.size:
        return stored.astype(np.float32)
    zeros = np.asarray(numbers(quantization.zeroPoint) if len(numbers(quantization.zeroPoint)) else [0], np.int64)
    integers = stored.astype(np.int64)
    if scales.size == 1:
        return cast("Floats", ((integers - zeros[0]) * scales[0].astype(np.float64)).astype(np.float32))
    shape = [1] * stored.ndim
    shape[int(quantization.quantizedDimension)] = scales.size
    spread = np.broadcast_to(zeros, scales.shape) if zeros.size == 1 else zeros
    return cast("Floats", ((integers - spread.reshape(shape)) * scales.reshape(shape)).astype(np.float32))
