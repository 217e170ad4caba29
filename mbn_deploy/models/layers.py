"""Expanding a network's table into a flat list of layers with shapes, for the builder and the analysis.

No framework is needed. Shapes are (height, width, channels) without the batch axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mbn_deploy.arguments import check_count, check_number
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
    """One layer. `inputs` are positions in the list; `block` is the number of the table row that it belongs to."""

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
    """A network with its width, resolution, classes and head.

    Raises:
        UsageError: a value is not one that the networks allow.
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
        check_number("alpha", self.alpha)
        for name in ("size", "classes"):
            check_count(name, getattr(self, name))
        if self.dropout is not None:
            check_number("dropout", self.dropout)
        if not 0 < self.alpha < math.inf:
            raise UsageError(f"alpha must be a number greater than 0, not {self.alpha}")
        if self.size < MIN_SIZE:
            raise UsageError(f"size must be at least {MIN_SIZE}, not {self.size}")
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
        """`<model>_<alpha>_<size>`, with which the names of exported files begin."""
        alpha = f"{self.alpha:g}" if self.alpha % 1 else f"{self.alpha:.1f}"
        return f"{self.network.name}_{alpha}_{self.size}"


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, at least one, never below 0.9 of `value`.

    The rule of the reference implementation (arXiv 1801.04381; `_make_divisible`).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def scaled(filters: int, alpha: float, rounding: Rounding) -> int:
    """Return the channels of a layer under the width multiplier alpha."""
    if rounding == "truncate":  # V1: plain truncation
        return int(filters * alpha)
    return make_divisible(filters * alpha)


def correct_pad(height: int, width: int, kernel: int) -> Pads:
    """Return the padding with which a strided 'valid' convolution reads the same windows as a 'same' one."""
    half = kernel // 2
    odd_h, odd_w = height % 2, width % 2
    return ((half - 1 + odd_h, half), (half - 1 + odd_w, half))


class _LayerList:
    """The layers appended so far; `at` is the position of the last one, `shape` its output shape."""

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
        """Append a depthwise convolution: 'same' with stride 1; zero padding, then 'valid', with stride 2."""
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
    """Return all layers of `spec` in topological order, each with its output shape (H, W, C)."""
    net = spec.network
    layers = _LayerList(spec.size, 0.99 if net.rounding == "truncate" else 0.999)
    _stem(layers, spec)
    for index, row in enumerate(net.rows):
        layers.block = index
        if isinstance(row, Separable):
            _separable(layers, row, index + 1, spec.alpha)
        elif net.last is not None:
            _bottleneck(layers, row, _v2_names(index), int(row.filters * spec.alpha))
        else:
            _bottleneck(layers, row, _v3_names(index), row.filters * spec.alpha)
    layers.block = None
    _features_end(layers, spec)
    (_top if spec.include_top else _headless)(layers, spec)
    return tuple(layers.layers)


def _stem(layers: _LayerList, spec: Spec) -> None:
    net = spec.network
    conv, norm, act = {
        "truncate": ("conv1", "conv1_bn", "conv1_relu"),
        "divisible": ("Conv1", "bn_Conv1", "Conv1_relu") if net.last else ("conv", "conv_bn", "conv_act"),
    }[net.rounding]
    if net.rescaling:
        layers.add("rescaling", "rescaling")
    filters = scaled(net.stem, spec.alpha, net.rounding) if net.stem_scaled else net.stem
    layers.conv(conv, filters, kernel=3, stride=2)
    layers.norm(norm)
    layers.add(net.activation, act)


def _separable(layers: _LayerList, row: Separable, number: int, alpha: float) -> None:
    name = f"conv_dw_{number}"
    layers.depthwise(name, f"conv_pad_{number}", 3, row.stride, ((0, 1), (0, 1)))
    layers.norm(f"{name}_bn")
    layers.add("relu6", f"{name}_relu")
    name = f"conv_pw_{number}"
    layers.conv(name, scaled(row.filters, alpha, "truncate"))
    layers.norm(f"{name}_bn")
    layers.add("relu6", f"{name}_relu")


@dataclass(frozen=True)
class _Names:
    """The names of a bottleneck's layers in one generation of networks; weights are found by them."""

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


def _bottleneck(layers: _LayerList, row: Bottleneck, names: _Names, filters: float) -> None:
    start, channels_in, prefix = layers.at, layers.channels, names.prefix
    if row.expansion is not None:
        wide = channels_in * row.expansion
        layers.conv(f"{prefix}expand", int(wide) if names.norm == "BN" else make_divisible(wide))
        layers.norm(names.norm_of("expand"))
        layers.add(row.activation, names.act_of("expand"))
    pads = correct_pad(layers.shape[0], layers.shape[1], row.kernel)
    layers.depthwise(f"{prefix}depthwise", f"{prefix}{names.pad}", row.kernel, row.stride, pads)
    layers.norm(names.norm_of("depthwise"))
    layers.add(row.activation, names.act_of("depthwise"))
    if row.se is not None:
        _squeeze_excite(layers, row.se, f"{prefix}squeeze_excite")
    channels = make_divisible(filters)
    layers.conv(f"{prefix}project", channels)
    layers.norm(names.norm_of("project"))
    if row.stride == 1 and channels == channels_in:
        layers.add("add", f"{prefix}add", inputs=(start, layers.at))


def _squeeze_excite(layers: _LayerList, ratio: int, prefix: str) -> None:
    start, channels = layers.at, layers.channels
    layers.pool("global_average_pool", f"{prefix}_avg_pool", keepdims=True)
    layers.conv(f"{prefix}_conv", make_divisible(channels / ratio), use_bias=True)
    layers.add("relu", f"{prefix}_relu")
    layers.conv(f"{prefix}_conv_1", channels, use_bias=True)
    layers.add("hard_sigmoid", f"{prefix}_hard_sigmoid")
    layers.add("multiply", f"{prefix}_mul", inputs=(start, layers.at))


def _features_end(layers: _LayerList, spec: Spec) -> None:
    net = spec.network
    if net.last is not None:
        filters = make_divisible(net.last * spec.alpha) if spec.alpha > 1 else net.last
        conv, norm, act = "Conv_1", "Conv_1_bn", "out_relu"
    elif net.last_expansion is not None:
        filters = make_divisible(layers.channels * net.last_expansion)
        conv, norm, act = "conv_1", "conv_1_bn", "conv_1_act"
    else:
        return
    layers.conv(conv, filters)
    layers.norm(norm)
    layers.add(net.activation, act)


def _headless(layers: _LayerList, spec: Spec) -> None:
    if spec.pooling == "avg":
        layers.pool("global_average_pool", "avg_pool")
    elif spec.pooling == "max":
        layers.pool("global_max_pool", "max_pool")


def _top(layers: _LayerList, spec: Spec) -> None:
    net = spec.network
    rate = net.dropout if spec.dropout is None else spec.dropout
    if net.last is not None:  # V2: a dense classifier
        layers.pool("global_average_pool", "global_average_pooling2d")
        if rate > 0:
            layers.add("dropout", "dropout", rate=rate)
        layers.add("dense", "predictions", (spec.classes,), use_bias=True, activation=spec.classifier_activation)
        return
    layers.pool("global_average_pool", "global_average_pooling2d", keepdims=True)
    if net.last_point is not None:
        point = make_divisible(net.last_point * spec.alpha) if spec.alpha > 1 else net.last_point
        layers.conv("conv_2", point, use_bias=True)
        layers.add(net.activation, "conv_2_act")
    if rate > 0:
        layers.add("dropout", "dropout", rate=rate)
    layers.conv("logits" if net.last_point else "conv_preds", spec.classes, use_bias=True)
    if net.last_point:
        layers.add("flatten", "flatten", (spec.classes,))
    else:
        layers.add("reshape", "reshape_2", (spec.classes,))
    layers.add("activation", "predictions", activation=spec.classifier_activation)
