"""Parameters and multiply-adds of a network, layer by layer, without a framework.

Convention: one multiply-add (MAC) is one multiplication with one addition; convolutions and dense layers are counted,
biases, BatchNorm, activations and pooling are not (as in the papers' tables). Parameters are all values of a weights
file, including the four vectors of each BatchNorm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mbn_deploy.models.layers import Layer, Shape, Spec, expand

REFERENCE_SIZE = 224  # the size with rho 1


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
    """A depthwise + pointwise pair compared with the standard convolution that it replaces.

    The standard convolution has the same D_K x D_K kernel and stride, the input of the depthwise layer and the output
    of the pointwise layer, with N channels. `measured` is the ratio of counted multiply-adds, `formula` is
    1/N + 1/D_K^2 (arXiv 1704.04861, section 3.1).
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
        """Multiply-adds of the pair divided by those of the standard convolution."""
        return self.separable_macs / self.standard_macs


def layer_costs(spec: Spec) -> list[LayerCost]:
    """Return the cost of every layer of `spec`, in topological order."""
    layers = expand(spec)
    return [_cost(layer, layers) for layer in layers]


def totals(spec: Spec) -> tuple[int, int]:
    """Return (parameters, multiply-adds) of the whole network."""
    costs = layer_costs(spec)
    return sum(c.parameters for c in costs), sum(c.macs for c in costs)


def separable_costs(spec: Spec) -> list[SeparableCost]:
    """Return every depthwise layer with the pointwise one behind it, ignoring squeeze-and-excitation in between."""
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
        depthwise=depthwise.name,
        pointwise=pointwise.name,
        kernel=depthwise.kernel,
        filters=filters,
        separable_macs=_cost(depthwise, layers).macs + _cost(pointwise, layers).macs,
        standard_macs=height * width * channels_in * depthwise.kernel**2 * filters,
    )


@dataclass(frozen=True)
class ScalingCost:
    """A network at width multiplier `alpha` and resolution `size`, compared with itself at alpha 1 and 224.

    `measured` is the ratio of counted multiply-adds; `squares` is alpha^2 * rho^2 with rho = size / 224
    (arXiv 1704.04861, sections 3.3 and 3.4). They differ where alpha has less effect (depthwise layers cost alpha,
    not alpha^2; some layers keep their width; channels are rounded to 8) and where rho has (the classifier; odd sizes
    are rounded up).
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
    """Return the cost of every alpha at every size, alphas outermost, with everything else as in `spec`."""
    full = totals(replace(spec, alpha=1.0, size=REFERENCE_SIZE))[1]
    columns = list(sizes)
    costs = []
    for alpha in alphas:
        for size in columns:
            parameters, macs = totals(replace(spec, alpha=alpha, size=size))
            costs.append(ScalingCost(alpha=alpha, size=size, parameters=parameters, macs=macs, measured=macs / full))
    return costs


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
    return LayerCost(
        name=layer.name, kind=layer.kind, shape=layer.shape, parameters=weights + bias, macs=weights * area
    )
