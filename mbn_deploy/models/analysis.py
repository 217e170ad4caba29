"""Parameters and multiply-adds of a network, layer by layer, without a framework.

Convention: one multiply-add (MAC) is one multiplication with one addition; convolutions and dense
layers are counted, biases, BatchNorm, activations and pooling are not (as in the papers' tables).
Parameters count everything that a weights file holds, BatchNorm's four vectors included.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.models.layers import Layer, Shape, Spec, expand


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

    `measured` is the ratio of counted multiply-adds, `formula` is 1/N + 1/D_K^2 (arXiv 1704.04861,
    section 3.1) with N output channels and a D_K x D_K kernel. They are equal where the depthwise
    layer does not change the resolution's count, which is so for every pair here.
    """

    depthwise: str
    pointwise: str
    separable_macs: int
    standard_macs: int
    formula: float

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
            pairs.append(_pair(layer, pointwise))
    return pairs


def _pair(depthwise: Layer, pointwise: Layer) -> SeparableCost:
    height, width, channels = depthwise.shape
    filters, taps = pointwise.shape[-1], depthwise.kernel**2
    area = height * width
    return SeparableCost(
        depthwise.name,
        pointwise.name,
        separable_macs=area * channels * (taps + filters),
        standard_macs=area * channels * taps * filters,
        formula=1 / filters + 1 / taps,
    )


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
