"""A table of rows becomes a flat list of layers with shapes: what both the builder and the analysis read.

No framework is needed here. Shapes are (height, width, channels) without the batch axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mbn_deploy.errors import UsageError
from mbn_deploy.models.tables import Bottleneck, Network, Rounding, Separable

Kind = Literal[
    "input", "rescaling", "conv", "depthwise", "batch_norm", "relu", "relu6", "hard_swish", "hard_sigmoid",
    "pad", "global_average_pool", "global_max_pool", "dropout", "dense", "reshape", "flatten", "activation",
    "add", "multiply",
]  # fmt: skip
Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]

MIN_SIZE = 32


@dataclass(frozen=True)
class Layer:
    """One layer. `inputs` are positions in the list; `block` is the table row that it belongs to."""

    kind: Kind
    name: str
    inputs: tuple[int, ...]
    shape: Shape
    kernel: int = 0
    stride: int = 1
    padding: Literal["same", "valid"] = "same"
    pads: Pads = ((0, 0), (0, 0))
    use_bias: bool = False
    keepdims: bool = False
    momentum: float = 0.99
    rate: float = 0.0
    activation: str | None = None
    block: int | None = None


@dataclass(frozen=True)
class Spec:
    """Everything that fixes a network: the table and the choices made on it.

    Raises `UsageError` for values outside what the networks allow.
    """

    network: Network
    alpha: float = 1.0
    size: int = 224
    classes: int = 1000
    include_top: bool = True
    pooling: Literal["avg", "max"] | None = None
    dropout: float | None = None
    classifier_activation: Literal["softmax", "sigmoid"] | None = "softmax"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise UsageError(f"alpha must be a number greater than 0, not {self.alpha}")
        if self.size < MIN_SIZE:
            raise UsageError(f"size must be at least {MIN_SIZE}, not {self.size}")
        if self.classes < 1:
            raise UsageError(f"classes must be at least 1, not {self.classes}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), not {self.dropout}")
        if self.pooling not in (None, "avg", "max"):
            raise UsageError(f"pooling must be avg, max or None, not {self.pooling!r}")
        if self.classifier_activation not in (None, "softmax", "sigmoid"):
            raise UsageError(
                f"classifier activation must be softmax, sigmoid or None, not {self.classifier_activation!r}"
            )
        if self.network.rounding == "truncate" and int(8 * self.alpha) < 1:
            raise UsageError(f"alpha {self.alpha} leaves a layer of {self.network.name} without channels")

    @property
    def name(self) -> str:
        """`<model>_<alpha>_<size>`, the stem of every exported file's name."""
        return (
            f"{self.network.name}_{self.alpha:g}_{self.size}"
            if self.alpha % 1
            else (f"{self.network.name}_{self.alpha:.1f}_{self.size}")
        )


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, at least one, never below 0.9 of `value`.

    The rule of the reference implementation (arXiv 1801.04381; `_make_divisible`).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def scaled(filters: int, alpha: float, rounding: Rounding) -> int:
    """Channels of a layer under the width multiplier alpha."""
    if rounding == "truncate":  # V1: plain truncation
        return int(filters * alpha)
    return make_divisible(filters * alpha)


def correct_pad(height: int, width: int, kernel: int) -> Pads:
    """Padding before a strided 'valid' convolution so that it sees what 'same' would show it."""
    half = kernel // 2
    odd_h, odd_w = height % 2, width % 2
    return ((half - 1 + odd_h, half), (half - 1 + odd_w, half))


class _Trace:
    """Appends layers and follows shapes; `at` is the position of the newest layer."""

    def __init__(self, size: int, momentum: float) -> None:
        self.layers: list[Layer] = [Layer("input", "input", (), (size, size, 3))]
        self.momentum = momentum
        self.block: int | None = None

    @property
    def at(self) -> int:
        return len(self.layers) - 1

    @property
    def shape(self) -> Shape:
        return self.layers[-1].shape

    @property
    def channels(self) -> int:
        return self.shape[-1]

    def add(
        self, kind: Kind, name: str, shape: Shape | None = None, inputs: tuple[int, ...] | None = None, **attrs: object
    ) -> None:
        source = (self.at,) if inputs is None else inputs
        layer = Layer(kind, name, source, shape or self.layers[source[0]].shape, block=self.block, **attrs)  # type: ignore[arg-type]
        self.layers.append(layer)

    def conv(self, name: str, filters: int, kernel: int = 1, stride: int = 1, *, use_bias: bool = False) -> None:
        height, width, _ = self.shape
        shape = (-(-height // stride), -(-width // stride), filters)
        self.add("conv", name, shape, kernel=kernel, stride=stride, use_bias=use_bias)

    def depthwise(self, name: str, pad_name: str, kernel: int, stride: int, pads: Pads) -> None:
        """Stride 1: 'same'. Stride 2: explicit zero padding, then 'valid', as the reference has it."""
        if stride == 1:
            self.add("depthwise", name, kernel=kernel)
            return
        height, width, channels = self.shape
        height, width = height + sum(pads[0]), width + sum(pads[1])
        self.add("pad", pad_name, (height, width, channels), pads=pads)
        shape = ((height - kernel) // stride + 1, (width - kernel) // stride + 1, channels)
        self.add("depthwise", name, shape, kernel=kernel, stride=stride, padding="valid")

    def norm(self, name: str) -> None:
        self.add("batch_norm", name, momentum=self.momentum)

    def pool(
        self, kind: Literal["global_average_pool", "global_max_pool"], name: str, *, keepdims: bool = False
    ) -> None:
        channels = self.channels
        self.add(kind, name, (1, 1, channels) if keepdims else (channels,), keepdims=keepdims)


def expand(spec: Spec) -> tuple[Layer, ...]:
    """All layers of `spec` in topological order, each with its output shape (H, W, C)."""
    net = spec.network
    trace = _Trace(spec.size, 0.99 if net.rounding == "truncate" else 0.999)
    _stem(trace, spec)
    for index, row in enumerate(net.rows):
        trace.block = index
        if isinstance(row, Separable):
            _separable(trace, row, index + 1, spec.alpha)
        elif net.last is not None:
            _bottleneck(trace, row, _v2_names(index), int(row.filters * spec.alpha))
        else:
            _bottleneck(trace, row, _v3_names(index), row.filters * spec.alpha)
    trace.block = None
    _features_end(trace, spec)
    (_top if spec.include_top else _headless)(trace, spec)
    return tuple(trace.layers)


def _stem(trace: _Trace, spec: Spec) -> None:
    net = spec.network
    conv, norm, act = {
        "truncate": ("conv1", "conv1_bn", "conv1_relu"),
        "divisible": ("Conv1", "bn_Conv1", "Conv1_relu") if net.last else ("conv", "conv_bn", "conv_act"),
    }[net.rounding]
    if net.rescaling:
        trace.add("rescaling", "rescaling")
    filters = scaled(net.stem, spec.alpha, net.rounding) if net.stem_scaled else net.stem
    trace.conv(conv, filters, kernel=3, stride=2)
    trace.norm(norm)
    trace.add(net.activation, act)


def _separable(trace: _Trace, row: Separable, number: int, alpha: float) -> None:
    name = f"conv_dw_{number}"
    trace.depthwise(name, f"conv_pad_{number}", 3, row.stride, ((0, 1), (0, 1)))
    trace.norm(f"{name}_bn")
    trace.add("relu6", f"{name}_relu")
    name = f"conv_pw_{number}"
    trace.conv(name, scaled(row.filters, alpha, "truncate"))
    trace.norm(f"{name}_bn")
    trace.add("relu6", f"{name}_relu")


@dataclass(frozen=True)
class _Names:
    """How one generation names the layers of a bottleneck (weights are found by these)."""

    prefix: str
    norm: str
    act: str
    pad: str

    def norm_of(self, part: str) -> str:
        return f"{self.prefix}{part}_{self.norm}"

    def act_of(self, part: str) -> str:
        return f"{self.prefix}{part}_{self.act}"


def _v2_names(index: int) -> _Names:
    return _Names(f"block_{index}_" if index else "expanded_conv_", "BN", "relu", "pad")


def _v3_names(index: int) -> _Names:
    return _Names(f"expanded_conv_{index}_" if index else "expanded_conv_", "bn", "act", "depthwise_pad")


def _bottleneck(trace: _Trace, row: Bottleneck, names: _Names, filters: float) -> None:
    start, channels_in, prefix = trace.at, trace.channels, names.prefix
    if row.expansion is not None:
        wide = channels_in * row.expansion
        trace.conv(f"{prefix}expand", int(wide) if names.norm == "BN" else make_divisible(wide))
        trace.norm(names.norm_of("expand"))
        trace.add(row.activation, names.act_of("expand"))
    pads = correct_pad(trace.shape[0], trace.shape[1], row.kernel)
    trace.depthwise(f"{prefix}depthwise", f"{prefix}{names.pad}", row.kernel, row.stride, pads)
    trace.norm(names.norm_of("depthwise"))
    trace.add(row.activation, names.act_of("depthwise"))
    if row.se is not None:
        _squeeze_excite(trace, row.se, f"{prefix}squeeze_excite")
    channels = make_divisible(filters)
    trace.conv(f"{prefix}project", channels)
    trace.norm(names.norm_of("project"))
    if row.stride == 1 and channels == channels_in:
        trace.add("add", f"{prefix}add", inputs=(start, trace.at))


def _squeeze_excite(trace: _Trace, ratio: int, prefix: str) -> None:
    start, channels = trace.at, trace.channels
    trace.pool("global_average_pool", f"{prefix}_avg_pool", keepdims=True)
    trace.conv(f"{prefix}_conv", make_divisible(channels / ratio), use_bias=True)
    trace.add("relu", f"{prefix}_relu")
    trace.conv(f"{prefix}_conv_1", channels, use_bias=True)
    trace.add("hard_sigmoid", f"{prefix}_hard_sigmoid")
    trace.add("multiply", f"{prefix}_mul", inputs=(start, trace.at))


def _features_end(trace: _Trace, spec: Spec) -> None:
    net = spec.network
    if net.last is not None:
        filters = make_divisible(net.last * spec.alpha) if spec.alpha > 1 else net.last
        conv, norm, act = "Conv_1", "Conv_1_bn", "out_relu"
    elif net.last_expansion is not None:
        filters = make_divisible(trace.channels * net.last_expansion)
        conv, norm, act = "conv_1", "conv_1_bn", "conv_1_act"
    else:
        return
    trace.conv(conv, filters)
    trace.norm(norm)
    trace.add(net.activation, act)


def _headless(trace: _Trace, spec: Spec) -> None:
    if spec.pooling == "avg":
        trace.pool("global_average_pool", "avg_pool")
    elif spec.pooling == "max":
        trace.pool("global_max_pool", "max_pool")


def _top(trace: _Trace, spec: Spec) -> None:
    net = spec.network
    rate = net.dropout if spec.dropout is None else spec.dropout
    if net.last is not None:  # V2: a dense classifier
        trace.pool("global_average_pool", "global_average_pooling2d")
        if rate > 0:
            trace.add("dropout", "dropout", rate=rate)
        trace.add("dense", "predictions", (spec.classes,), use_bias=True, activation=spec.classifier_activation)
        return
    trace.pool("global_average_pool", "global_average_pooling2d", keepdims=True)
    if net.last_point is not None:
        point = make_divisible(net.last_point * spec.alpha) if spec.alpha > 1 else net.last_point
        trace.conv("conv_2", point, use_bias=True)
        trace.add(net.activation, "conv_2_act")
    if rate > 0:
        trace.add("dropout", "dropout", rate=rate)
    trace.conv("logits" if net.last_point else "conv_preds", spec.classes, use_bias=True)
    trace.add("flatten" if net.last_point else "reshape", "flatten" if net.last_point else "reshape_2", (spec.classes,))
    trace.add("activation", "predictions", activation=spec.classifier_activation)
