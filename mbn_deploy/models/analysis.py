"""Parameters and multiply-adds of a network, layer by layer, without a framework.

Convention: one multiply-add (MAC) is one multiplication with one addition; convolutions and dense
layers are counted, biases, BatchNorm, activations and pooling are not (as in the papers' tables).
Parameters count everything that a weights file holds, BatchNorm's four vectors included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mbn_deploy.models.layers import Layer, Shape, Spec, expand

REFERENCE_SIZE = 224  # where rho is 1


@dataclass(frozen=True)
class LayerCost:
    """One layer's name, kind, output shape (H, W, C), parameters and multiply-adds."""

    name: str
    kind: str
    shape: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class SeparableCost:
    """A depthwise + pointwise pair against the standard convolution that it replaces.

    The standard convolution has the same D_K x D_K kernel and stride, reads what the depthwise layer
    reads and writes what the pointwise layer writes, N channels. `measured` is the ratio of counted
    multiply-adds, `formula` is 1/N + 1/D_K^2 (arXiv 1704.04861, section 3.1).
    """

    depthwise: str
    pointwise: str
    kernel: int
    filters: int
    separable_macs: int
    standard_macs: int

    @property
    def formula(self) -> float:
        """1/N + 1/D_K^2."""
        return 1 / self.filters + 1 / self.kernel**2

    @property
    def measured(self) -> float:
        """Multiply-adds of the pair over those of the standard convolution."""
        return self.separable_macs / self.standard_macs


def layer_costs(spec: Spec) -> list[LayerCost]:
    """Cost of every layer of `spec`, in topological order."""
    layers = expand(spec)
    return [_cost(layer, layers) for layer in layers]


def totals(spec: Spec) -> tuple[int, int]:
    """(parameters, multiply-adds) of the whole network."""
    costs = layer_costs(spec)
    return sum(c.parameters for c in costs), sum(c.macs for c in costs)


def separable_costs(spec: Spec) -> list[SeparableCost]:
    """Every depthwise layer with the pointwise one behind it (squeeze-and-excitation between them aside)."""
    layers = expand(spec)
    pairs = []
    for at, layer in enumerate(layers):
        if layer.kind == "depthwise":
            pointwise = next(p for p in layers[at + 1 :] if p.kind == "conv" and "squeeze" not in p.name)
            pairs.append(_pair(layer, pointwise, layers))
    return pairs


def _pair(depthwise: Layer, pointwise: Layer, layers: tuple[Layer, ...]) -> SeparableCost:
    channels_in = layers[depthwise.inputs[0]].shape[-1]
    height, width, filters = pointwise.shape
    return SeparableCost(
        depthwise.name,
        pointwise.name,
        depthwise.kernel,
        filters,
        separable_macs=_cost(depthwise, layers).macs + _cost(pointwise, layers).macs,
        standard_macs=height * width * channels_in * depthwise.kernel**2 * filters,
    )


@dataclass(frozen=True)
class ScalingCost:
    """A network at width multiplier `alpha` and resolution `size` against itself at alpha 1 and 224.

    `measured` is the ratio of counted multiply-adds; `squares` is alpha^2 * rho^2 with rho = size / 224
    (arXiv 1704.04861, sections 3.3 and 3.4). They differ where alpha does not reach (the first depthwise
    layers cost alpha, not alpha^2; layers that keep their width; channels rounded to 8) and where rho does
    not (the classifier; odd sizes rounded up).
    """

    alpha: float
    size: int
    parameters: int
    macs: int
    measured: float

    @property
    def rho(self) -> float:
        """The resolution multiplier."""
        return self.size / REFERENCE_SIZE

    @property
    def squares(self) -> float:
        """alpha^2 * rho^2."""
        return self.alpha**2 * self.rho**2


def scaling_costs(spec: Spec, alphas: Iterable[float], sizes: Iterable[int]) -> list[ScalingCost]:
    """Every alpha at every size, alphas outermost, all else as in `spec`."""
    full = totals(replace(spec, alpha=1.0, size=REFERENCE_SIZE))[1]
    columns = list(sizes)
    found = []
    for alpha in alphas:
        for size in columns:
            parameters, macs = totals(replace(spec, alpha=alpha, size=size))
            found.append(ScalingCost(alpha, size, parameters, macs, macs / full))
    return found


def _cost(layer: Layer, layers: tuple[Layer, ...]) -> LayerCost:
    weights = area = bias = 0
    out = layer.shape[-1]
    if layer.kind in ("conv", "dense", "depthwise"):
        fan_in = 1 if layer.kind == "depthwise" else layers[layer.inputs[0]].shape[-1]
        weights = (layer.kernel or 1) ** 2 * fan_in * out
        area = layer.shape[0] * layer.shape[1] if len(layer.shape) == 3 else 1
        bias = out if layer.use_bias else 0
    elif layer.kind == "batch_norm":
        bias = 4 * out
    return LayerCost(layer.name, layer.kind, layer.shape, weights + bias, weights * area)
