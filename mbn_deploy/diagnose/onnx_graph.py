"""Read the operations of an .onnx file, float or QDQ, so that they can be run one by one (see `file_graph`).

Files are NCHW; here everything is NHWC, so that operations of both formats are run by the same code. Integer tensors
are tensors of their own: QuantizeLinear rounds, a Clip of integers narrows their limits, and DequantizeLinear passes
the real value on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats
from mbn_deploy.diagnose.file_graph import FileGraph, FileOp, Run, identity, run_of
from mbn_deploy.diagnose.functions import (
    ONE,
    TWO,
    run_concat,
    run_lookup,
    run_one,
    run_over_channels,
    run_resize,
    run_slice,
    run_slopes,
    run_transpose,
    run_two,
)
from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.builder import onnx_module
from mbn_deploy.export.onnx.inspect import constant_nodes, load_onnx
from mbn_deploy.graph.graph import Interpolation, Op, OpKind, Pads, Shape
from mbn_deploy.graph.quantized import QuantParams

TO_NHWC, TO_NCHW = (0, 2, 3, 1), [0, 3, 1, 2]
TO_CHANNELS_LAST = (0, 3, 1, 2)  # the axis in NHWC of each axis of NCHW
_UNARY: dict[str, OpKind] = {
    "Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hard_swish", "Softmax": "softmax",
    "Tanh": "tanh", "Softplus": "softplus", "Softsign": "softsign", "LogSoftmax": "log_softmax",
}  # fmt: skip
_WEIGHTED = frozenset({"Conv", "Gemm"})
_MOVES = frozenset({"Reshape", "Flatten", "Squeeze"})
_KEEPS_LAYOUT = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "Clip"})
_CHANNELS = (1, 3)


def read_onnx_graph(data: bytes, where: str) -> FileGraph:
    """Return the graph of the file. `where` names the file; raises `InputError` if it is damaged."""
    model = load_onnx(data, where)
    try:
        return _GraphReader(model).file_graph(where)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: damaged: {type(error).__name__}: {error}") from error


def nhwc(shape: Shape) -> Shape:
    """Return the shape (N, C, H, W) as (N, H, W, C), other shapes as they are."""
    return tuple(shape[i] for i in TO_NHWC) if len(shape) == 4 else shape


class _GraphReader:
    def __init__(self, model: Any) -> None:
        onnx = onnx_module()
        self.graph = model.graph
        tensors = {t.name: t for t in self.graph.initializer} | constant_nodes(self.graph)
        self.constants: dict[str, npt.NDArray[Any]] = {n: onnx.numpy_helper.to_array(t) for n, t in tensors.items()}
        known = [*self.graph.input, *self.graph.output, *self.graph.value_info]
        self.file_shapes: dict[str, Shape] = {v.name: _dims(v) for v in known}
        self.nodes = list(self.graph.node)
        self.attributes = {
            id(node): {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in self.nodes
        }
        self.params: dict[str, QuantParams] = {}
        self.source = next(v.name for v in self.graph.input if v.name not in self.constants)
        self._levels: dict[str, QuantParams] = {}  # parameters of levels that were cast to indices
        self.channels_last: set[str] = set()  # tensors that are NHWC in the file, too
        if _is_channels_last(self.file_shapes[self.source]):
            self.channels_last.add(self.source)

    def file_graph(self, where: str) -> FileGraph:
        """Return all operations that depend on the input."""
        ops = tuple(op for node in self.nodes if (op := self._file_op(node)) is not None)
        names = {self.source, *(op.output for op in ops)}
        shapes = {n: s if n in self.channels_last else nhwc(s) for n, s in self.file_shapes.items() if n in names}
        return FileGraph(
            where=where,
            format="onnx",
            input=self.source,
            output=self.graph.output[0].name,
            ops=ops,
            shapes=shapes,
            params=self.params,
        )

    def _file_op(self, node: Any) -> FileOp | None:
        if not node.output or node.output[0] in self.constants:
            return None
        if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
            self.constants[node.output[0]] = self._dequantized(node)
            return None
        if (
            node.op_type in ("QuantizeLinear", "DequantizeLinear", "Transpose", "Clip")
            and node.input[0] in self.channels_last
        ):
            self.channels_last.add(node.output[0])
        flowing = tuple(name for name in node.input if name and name not in self.constants)
        run = self._run(node)
        return FileOp(
            layer=node.name if node.op_type in _WEIGHTED and node.name else node.output[0],
            kind=node.op_type,
            inputs=flowing,
            output=node.output[0],
            run=run,
            kernel=self._kernel(node),
            depthwise=self._is_depthwise(node),
            moves_only=node.op_type in _MOVES,
        )

    def _is_depthwise(self, node: Any) -> bool:
        group = int(self.attributes[id(node)].get("group", 1))
        return node.op_type == "Conv" and group > 1 and group == self.file_shapes[node.input[0]][1]

    def _kernel(self, node: Any) -> Floats | None:
        """Return the kernel in the layout of `FileOp`; of a convolution in groups it has the inputs of one group."""
        kernel = self.constants.get(node.input[1]) if node.op_type in _WEIGHTED else None
        attributes = self.attributes[id(node)]
        if kernel is None:
            return None
        if node.op_type == "Gemm":
            return kernel.T if attributes.get("transB", 0) else kernel
        if kernel.ndim != 4:
            return None
        if self._is_depthwise(node):
            channels = int(attributes["group"])
            return np.asarray(kernel.reshape(channels, -1, *kernel.shape[2:]).transpose(2, 3, 0, 1))
        return kernel.transpose(2, 3, 1, 0)

    def _dequantized(self, node: Any) -> npt.NDArray[Any]:
        stored, scales = self.constants[node.input[0]].astype(np.int64), self.constants[node.input[1]]
        zeros = self.constants[node.input[2]].astype(np.int64) if len(node.input) > 2 else np.zeros((), np.int64)
        if scales.ndim == 1 and stored.ndim > 0:
            shape = [1] * stored.ndim
            shape[self.attributes[id(node)].get("axis", 1)] = -1
            scales, zeros = scales.reshape(shape), np.broadcast_to(zeros, scales.shape).reshape(shape)
        return np.asarray((stored - zeros) * scales.astype(np.float64), np.float32)

    def _params_of(self, node: Any) -> QuantParams | None:
        """Return an activation's parameters from its QuantizeLinear or DequantizeLinear, None if not constant."""
        scale, zero = (self.constants.get(name) for name in node.input[1:3])
        if scale is None or zero is None or scale.size != 1:
            return None
        return QuantParams(float(scale.reshape(())), int(zero.reshape(())), zero.dtype.name)

    def _run(self, node: Any) -> Run | None:
        """Return how to run the operation, None if its kind or one of its options is not known here."""
        attributes = self.attributes[id(node)]
        if node.op_type in _UNARY:
            return run_of(Op(_UNARY[node.op_type], node.op_type, (), ""))
        if node.op_type in ONE:
            return run_one(node.op_type)
        known: dict[str, Callable[[Any, dict[str, Any]], Run | None]] = {
            "QuantizeLinear": self._quantize, "DequantizeLinear": self._dequantize, "Transpose": self._transpose,
            "Identity": lambda _node, _attributes: identity, "Clip": self._clip, "HardSigmoid": self._hard_sigmoid,
            "Conv": self._conv, "Gemm": self._gemm, "Pad": self._pad,
            "GlobalAveragePool": self._global, "GlobalMaxPool": self._global,
            "AveragePool": self._pool, "MaxPool": self._pool,
            "Concat": self._concat, "LeakyRelu": self._leaky_relu, "PRelu": self._prelu, "Elu": self._elu,
            "Slice": self._slice, "Resize": self._resize,
            **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceL2"), self._over_channels),
            "ThresholdedRelu": self._threshold, "Cast": self._cast, "Gather": self._lookup,
            **dict.fromkeys(TWO, self._binary), **dict.fromkeys(_MOVES, self._reshape),
        }  # fmt: skip
        return known[node.op_type](node, attributes) if node.op_type in known else None

    def _quantize(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = attributes
        params = self._params_of(node)
        if params is None:
            return None
        self.params[node.output[0]] = params
        return identity

    def _dequantize(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        """Run as the identity, or as a multiplication where the integers are read with another scale."""
        _ = attributes
        params = self._params_of(node)
        if params is None:
            return None
        stored = self.params.setdefault(node.input[0], params)
        factor = np.float32(params.scale / stored.scale)
        return identity if factor == 1 else lambda values: values[0] * factor

    def _transpose(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        """Run the Transpose behind a channels-last input as the identity: here all values are channels-last."""
        order = [int(axis) for axis in attributes.get("perm", ())]
        if node.input[0] not in self.channels_last or order != TO_NCHW:
            return None if not order or node.input[0] in self.channels_last else self._moved(node, run_transpose(order))
        self.channels_last.discard(node.output[0])
        if node.input[0] in self.params:
            self.params[node.output[0]] = self.params[node.input[0]]
        return identity

    def _clip(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = attributes
        names = [*node.input[1:], "", ""][:2]
        if any(name and name not in self.constants for name in names):
            return None
        low, high = (self.constants[name].reshape(())[()] if name else None for name in names)
        params = self.params.get(node.input[0])
        if params is None:
            return lambda values: np.clip(values[0], low, high)
        if low is None or high is None:
            return None
        self.params[node.output[0]] = replace(params, clip=(int(low), int(high)))
        return identity  # rounding by the narrower parameters saturates

    def _hard_sigmoid(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = node
        alpha, beta = np.float32(attributes.get("alpha", 0.2)), np.float32(attributes.get("beta", 0.5))
        return lambda values: np.clip(values[0] * alpha + beta, 0, 1)

    def _binary(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = attributes
        operands: list[Floats | None] = []
        for name in node.input:
            constant = self.constants.get(name)
            if constant is not None and constant.size != 1:
                if constant.ndim not in (3, 4):
                    return None
                constant = np.moveaxis(constant, -3, -1)
            operands.append(constant)
        if node.input[0] in self.params:  # it compares integers
            self.params[node.output[0]] = self.params[node.input[0]]
        return run_two(node.op_type, operands)

    def _concat(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        axis = int(attributes["axis"])
        rank = len(self.file_shapes[node.output[0]])
        if any(name in self.constants for name in node.input):
            return None
        return run_concat(TO_CHANNELS_LAST[axis % 4] if rank == 4 else axis, [None] * len(node.input))

    def _leaky_relu(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = node
        return run_slopes([attributes.get("alpha", 0.01)])

    def _prelu(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = attributes
        slopes = self.constants.get(node.input[1])
        if slopes is None or slopes.ndim not in (1, 3):
            return None
        return run_slopes(np.moveaxis(slopes, -3, -1) if slopes.ndim == 3 else slopes)

    def _elu(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = node
        return run_of(Op("elu", "elu", (), "")) if attributes.get("alpha", 1.0) == 1 else None

    def _threshold(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = node
        return run_of(Op("threshold", "threshold", (), "", low=float(attributes.get("alpha", 1.0))))

    def _cast(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        """Run the Cast of levels to indices as the identity."""
        _ = attributes
        if node.input[0] not in self.params:
            return None
        self._levels[node.output[0]] = self.params[node.input[0]]
        return identity

    def _lookup(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        table, source = self.constants.get(node.input[0]), self._levels.get(node.input[1])
        if table is None or table.ndim != 1 or source is None or attributes.get("axis", 0):
            return None
        return run_lookup(table, source, lambda: self.params[node.output[0]])

    def _window(self, attributes: dict[str, Any]) -> dict[str, Any] | None:
        if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or attributes.get("ceil_mode", 0):
            return None
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        pads: Pads = (int(top), int(bottom), int(left), int(right))
        return {
            "pads": pads,
            "stride": tuple(attributes.get("strides", (1, 1))),
            "dilation": tuple(attributes.get("dilations", (1, 1))),
        }

    def _conv(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        window, kernel, bias = self._window(attributes), self._kernel(node), self._bias(node)
        if window is None or kernel is None or bias is None:
            return None
        kind: OpKind = "depthwise" if self._is_depthwise(node) else "conv"
        return run_of(Op(kind, kind, (), "", kernel=kernel, bias=bias, **window))

    def _bias(self, node: Any) -> Floats | None:
        return self.constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1, np.float32)

    def _gemm(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        kernel, bias = self._kernel(node), self._bias(node)
        scaled = attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1 or attributes.get("transA", 0)
        if kernel is None or bias is None or scaled:
            return None
        return run_of(Op("dense", "dense", (), "", kernel=kernel, bias=bias))

    def _global(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = attributes
        kind: OpKind = "global_average_pool" if node.op_type == "GlobalAveragePool" else "global_max_pool"
        return run_of(Op(kind, kind, (), "", keepdims=True))

    def _pool(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        window = self._window(attributes)
        if window is None or (attributes.get("count_include_pad", 0) and any(window["pads"])):
            return None
        kind: OpKind = "average_pool" if node.op_type == "AveragePool" else "max_pool"
        return run_of(Op(kind, kind, (), "", window=tuple(attributes["kernel_shape"]), **window))

    def _pad(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        amounts = self.constants.get(node.input[1])
        if attributes.get("mode", b"constant") != b"constant" or amounts is None or amounts.size != 8:
            return None
        params = self.params.get(node.input[0])
        if params is not None:
            self.params[node.output[0]] = params
        _, _, top, left, _, _, bottom, right = (int(n) for n in amounts)
        return lambda values: np.pad(np.asarray(values[0]), ((0, 0), (top, bottom), (left, right), (0, 0)))

    def _moved(self, node: Any, run: Run) -> Run:
        """Return how to run `run`, which works on NCHW, on NHWC; integers keep their parameters."""
        if node.input[0] in self.params:
            self.params[node.output[0]] = self.params[node.input[0]]

        def in_file_layout(values: Sequence[Any]) -> Any:
            x = np.asarray(values[0])
            result = np.asarray(run([x.transpose(TO_NCHW) if x.ndim == 4 else x]))
            return result.transpose(TO_NHWC) if result.ndim == 4 else result

        return in_file_layout

    def _slice(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        _ = attributes
        given = [self.constants.get(name) for name in node.input[1:]]
        if len(given) != 4 or any(one is None for one in given) or node.input[0] in self.channels_last:
            return None
        ranges = {}
        for start, stop, axis, step in zip(*(one.tolist() for one in given if one is not None), strict=True):
            ranges[axis] = slice(start, None if stop < 0 else stop, step)
        if min(ranges) < 1:
            return None
        return self._moved(node, run_slice([ranges.get(axis, slice(None)) for axis in range(1, 1 + max(ranges))]))

    def _resize(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        sizes = self.constants.get(node.input[3]) if len(node.input) > 3 else None
        if sizes is None or attributes.get("coordinate_transformation_mode") != b"half_pixel":
            return None
        interpolation: Interpolation = "nearest" if attributes.get("mode") == b"nearest" else "bilinear"
        return run_resize(interpolation, sizes.tolist()[2:])

    def _over_channels(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        axes, rank = list(attributes.get("axes", ())), len(self.file_shapes.get(node.input[0], ()))
        if axes != [1 if rank == 4 else rank - 1] or not attributes.get("keepdims", 1):
            return None
        if node.input[0] in self.params:
            self.params[node.output[0]] = self.params[node.input[0]]
        return run_over_channels(node.op_type)

    def _reshape(self, node: Any, attributes: dict[str, Any]) -> Run | None:
        """Reshape row-major in NCHW, as the file means it."""
        _ = attributes
        shape = self.file_shapes[node.output[0]]

        def run(values: Sequence[Any]) -> Any:
            x = np.asarray(values[0])
            reshaped = (x.transpose(TO_NCHW) if x.ndim == 4 else x).reshape(-1, *shape[1:])
            return reshaped.transpose(TO_NHWC) if reshaped.ndim == 4 else reshaped

        return run


def _dims(value: Any) -> Shape:
    """Return the shape that the file declares, with 1 for an open axis."""
    return tuple(int(d.dim_value) or 1 for d in value.type.tensor_type.shape.dim)


def _is_channels_last(shape: Shape) -> bool:
    return len(shape) == 4 and shape[3] in _CHANNELS and shape[1] not in _CHANNELS
