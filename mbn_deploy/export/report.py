"""What `inspect` finds in a model file: frozen dataclasses with a JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mbn_deploy.manifest import Description, FileFormat

RELU6_SCALE = 6 / 255
_SCALE_TOLERANCE = 1e-4  # relative: the top level is then within a fortieth of a level of 6
_LEVELS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class TensorReport:
    """A tensor of the file. `shape` has -1 where the file leaves a dimension open.

    real = scale * (q - zero_point). Per-channel tensors have `channels` scales, none of them stands
    here; per-tensor ones have `channels` 1; float ones 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    channels: int = 0

    @property
    def range(self) -> tuple[float, float] | None:
        """Smallest and largest real value of a per-tensor quantized tensor."""
        if self.scale is None or self.zero_point is None or self.dtype not in _LEVELS:
            return None
        low, high = _LEVELS[self.dtype]
        return self.scale * (low - self.zero_point), self.scale * (high - self.zero_point)


@dataclass(frozen=True)
class OpReport:
    """One operation: what flows in and out, its constants (kernel, bias), and its fused activation."""

    name: str
    kind: str
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    constants: tuple[TensorReport, ...] = ()
    activation: str = "none"
    integer: bool = False


@dataclass(frozen=True)
class Relu6Range:
    """A quantized tensor that a ReLU6 bounds; clean: its levels are exactly [0, 6], scale 6/255."""

    tensor: str
    scale: float
    high: float
    clean: bool


@dataclass(frozen=True)
class DelegateReport:
    """What XNNPACK makes of a .tflite file: `partitions` pieces, and the ops left to the interpreter's own kernels.

    `error` says why the interpreter refused the file, if it did.
    """

    partitions: int = 0
    outside: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class FileReport:
    """A model file. `precision` is what the file is entitled to be called.

    `all_integer`: every op computes in integers but for the QUANTIZE and DEQUANTIZE at the two ends.
    `counts` counts the file's own nodes; `ops` leaves out the QuantizeLinear and DequantizeLinear
    nodes that in ONNX stand around each op. `parameters` are the values of kernels and biases.
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

    @property
    def relu6(self) -> tuple[Relu6Range, ...]:
        """The quantized tensors that a ReLU6 bounds."""
        return tuple(
            _relu6_range(tensor)
            for op in self.ops
            if op.activation == "relu6"
            for tensor in op.outputs
            if tensor.range is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the ReLU6 ranges included."""
        return {**asdict(self), "relu6": [asdict(item) for item in self.relu6]}

    def to_json(self) -> str:
        """Deterministic JSON text with a newline at the end."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _relu6_range(tensor: TensorReport) -> Relu6Range:
    low, high = tensor.range or (0.0, 0.0)
    scale = tensor.scale or 0.0
    clean = low == 0 and tensor.dtype != "int16" and abs(scale / RELU6_SCALE - 1) < _SCALE_TOLERANCE
    return Relu6Range(tensor.name, scale, high, clean)


def precision_of(ops: tuple[OpReport, ...], *, all_integer: bool, weight_types: set[str]) -> str:
    """`int8`, `float16`, `dynamic`, `float32`, or `mixed` for integer ops beside float ones."""
    if all_integer:
        return "int8"
    if any(op.integer for op in ops if op.constants):
        return "mixed"
    if "float16" in weight_types:
        return "float16"
    return "dynamic" if weight_types & {"int8", "uint8"} else "float32"
