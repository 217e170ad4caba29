"""The report of `inspect` on a model file: frozen dataclasses with a JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mbn_deploy.manifest import Description, FileFormat

FLOAT_TYPES = frozenset({"float16", "float32", "float64", "bfloat16"})
TYPE_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})

_RELU6_SCALE = 6 / 255
_SCALE_TOLERANCE = 1e-4  # relative: the last level is then within a fortieth of a level of 6
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "Conv", "Gemm", "MatMul"})
_LEVELS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class TensorReport:
    """A tensor of the file. `shape` has -1 where the file leaves a dimension open.

    real = scale * (q - zero_point). `channels` is the number of scales: 0 for float tensors, 1 for per-tensor
    quantization. `scale` and `zero_point` are given for per-tensor quantization only.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    channels: int = 0

    @property
    def range(self) -> tuple[float, float] | None:
        """The smallest and largest real value of a per-tensor quantized tensor, otherwise None."""
        if self.scale is None or self.zero_point is None or self.dtype not in _LEVELS:
            return None
        low, high = _LEVELS[self.dtype]
        return self.scale * (low - self.zero_point), self.scale * (high - self.zero_point)


@dataclass(frozen=True)
class OpReport:
    """One operation: its activations in and out, its constants (kernel, bias), and its fused activation function.

    `integer`: it computes in integers.
    """

    name: str
    kind: str
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    constants: tuple[TensorReport, ...] = ()
    activation: str = "none"
    integer: bool = False

    @property
    def values(self) -> int:
        """The number of values that it writes; open dimensions count as 1."""
        return sum(_size(tensor.shape) for tensor in self.outputs)

    @property
    def macs(self) -> int:
        """The multiply-adds of a convolution or dense layer, 0 for other operations."""
        kernels = [t for t in self.constants if len(t.shape) in (2, 4)]
        if self.kind not in _WEIGHTED or not kernels or not self.outputs:
            return 0
        shape = self.outputs[0].shape
        channels = shape[1] if self.kind == "Conv" else shape[-1]
        return self.values * _size(kernels[0].shape) // max(channels, 1)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod([max(n, 1) for n in shape], dtype=np.int64))


@dataclass(frozen=True)
class Share:
    """Some operations of a file, with their share of all multiply-adds and of all values written (0 to 1)."""

    macs: float
    values: float
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Relu6Range:
    """A quantized output of a ReLU6. `clean`: its levels cover exactly [0, 6], with scale 6/255."""

    tensor: str
    scale: float
    high: float
    clean: bool


@dataclass(frozen=True)
class DelegateReport:
    """XNNPACK's division of a .tflite file: `partitions` pieces, and the ops left to the interpreter's own kernels.

    `outside` are the kinds of those ops, `outside_tensors` the names of their outputs. `error` says why the
    interpreter did not open the file, if so.
    """

    partitions: int = 0
    outside: tuple[str, ...] = ()
    error: str | None = None
    outside_tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileReport:
    """The contents of a model file. `precision` is derived from the operations, not from what the file says.

    `all_integer`: every op computes in integers, except for a QUANTIZE and DEQUANTIZE at the two ends. `counts` has
    the file's own nodes by kind; `ops` leaves out the QuantizeLinear and DequantizeLinear nodes around the ops of
    an ONNX file. `parameters` is the number of values in kernels and biases. `dynamic_leftovers` are inputs and
    operations of a shape that is only known when the model runs. `purpose` says what the file is if it does not turn
    one picture into one row of numbers. `warnings` are sentences about what is unusual in it.
    """

    path: str
    format: FileFormat
    size: int
    producer: str
    precision: str
    all_integer: bool
    parameters: int
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    counts: dict[str, int]
    ops: tuple[OpReport, ...] = field(repr=False)
    description: Description | None = None
    metadata: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    select_tf_ops: tuple[str, ...] = ()
    custom_ops: tuple[str, ...] = ()
    dynamic_leftovers: tuple[str, ...] = ()
    delegate: DelegateReport | None = None
    purpose: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def relu6(self) -> tuple[Relu6Range, ...]:
        """The 8-bit outputs of ReLU6; with 16 bits the operation clips, and the range need not be clean."""
        return tuple(
            _relu6_range(tensor)
            for op in self.ops
            if op.activation == "relu6"
            for tensor in op.outputs
            if tensor.range is not None and tensor.dtype != "int16"
        )

    @property
    def float_islands(self) -> Share | None:
        """The float operations of a file with integer weights, without type conversions; None for other files."""
        if self.all_integer or not any(op.integer and op.constants for op in self.ops):
            return None
        return self._share([op for op in self.ops if not op.integer and op.kind not in TYPE_CONVERSIONS])

    @property
    def outside_delegate(self) -> Share | None:
        """The operations that XNNPACK leaves to the interpreter; None if that was not asked for, or failed."""
        if self.delegate is None or self.delegate.error is not None:
            return None
        names = set(self.delegate.outside_tensors)
        return self._share([op for op in self.ops if any(tensor.name in names for tensor in op.outputs)])

    def _share(self, ops: list[OpReport]) -> Share:
        macs, values = sum(op.macs for op in self.ops), sum(op.values for op in self.ops)
        return Share(
            macs=sum(op.macs for op in ops) / max(macs, 1),
            values=sum(op.values for op in ops) / max(values, 1),
            ops=tuple(op.name for op in ops),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the ReLU6 ranges and the shares."""
        shares = {"float_islands": self.float_islands, "outside_delegate": self.outside_delegate}
        return {
            **asdict(self),
            "relu6": [asdict(item) for item in self.relu6],
            **{name: None if share is None else asdict(share) for name, share in shares.items()},
        }

    def to_json(self) -> str:
        """Return deterministic JSON text with a newline at the end."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _relu6_range(tensor: TensorReport) -> Relu6Range:
    low, high = tensor.range or (0.0, 0.0)
    scale = tensor.scale or 0.0
    clean = low == 0 and abs(scale / _RELU6_SCALE - 1) < _SCALE_TOLERANCE
    return Relu6Range(tensor=tensor.name, scale=scale, high=high, clean=clean)


def file_precision(ops: tuple[OpReport, ...], *, all_integer: bool, weight_types: set[str]) -> str:
    """Return what a file with these operations may be called.

    `int8`, `int16x8`, `float16`, `dynamic`, `float32`, or `int8-mixed` where integer operations and others, or
    activations of 8 and of 16 bits, are mixed.
    """
    if all_integer:
        written = {tensor.dtype for op in ops if op.kind not in TYPE_CONVERSIONS for tensor in op.outputs}
        return "int16x8" if written == {"int16"} else "int8-mixed" if "int16" in written else "int8"
    if any(op.integer for op in ops if op.constants):
        return "int8-mixed"
    if "float16" in weight_types:
        return "float16"
    return "dynamic" if weight_types & {"int8", "uint8"} else "float32"
