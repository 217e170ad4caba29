"""What quantization did to each layer, cheaply: ranges before and after conditioning, and the error on a few images.

All of it comes from values that `quantize` made. The integers are computed as bias correction computes them, in float
with every value on its levels, beside the conditioned float network: both keep each channel at the same scale, so
nothing has to be matched. `diagnose` measures the files themselves, and what each layer does to the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.diagnose.layer_errors import decibel, spread
from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.graph import WEIGHTED, Op
from mbn_deploy.graph.quantized import QuantizedGraph
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.passes.bias import real_weights, stored_inputs, stored_output
from mbn_deploy.quantize.quantize import Quantization
from mbn_deploy.quantize.ranges import CalibratedGraph
from mbn_deploy.runtime.preprocess import normalize

IMAGES = 4  # thousands of values of most tensors each
BYTES = 2**27  # fewer images where the largest tensor would pass it


@dataclass(frozen=True)
class ValueRange:
    """Of one layer's weights, or of the values that it writes: `low` to `high` over all channels.

    `spread`: of max |value| a channel, the largest over the median; None if all are zero.
    """

    low: float
    high: float
    spread: float | None


@dataclass(frozen=True)
class LayerFigures:
    """What quantization does to a convolution or dense layer.

    Attributes:
        layer: name of the layer.
        kind: kind of its op in the graph.
        weights: ranges of the weights (before, after) conditioning; before is None for layers that conditioning adds,
            such as the second convolution of a pair before an h-swish.
        values: ranges of the output (before, after) conditioning.
        covered: the range that the output's integers can represent; None for layers that compute in float.
        dtype: the type of the output.
        sqnr_isolated: signal-to-quantization-noise ratio in dB on exact inputs, of the values that the next layer sees.
        sqnr_accumulated: the same ratio on the inputs that the layer gets in the quantized network.
    """

    layer: str
    kind: str
    weights: tuple[ValueRange | None, ValueRange]
    values: tuple[ValueRange | None, ValueRange]
    covered: tuple[float, float] | None
    dtype: str
    sqnr_isolated: float
    sqnr_accumulated: float


def summarize_layers(made: Quantization, calibration: CalibrationSet) -> tuple[int, tuple[LayerFigures, ...]]:
    """The weighted layers in the order of the network; errors on the first images of the set, how many comes first."""
    images = normalize(calibration.pixels[: _count(made.graph)], made.preprocess)
    before = {op.name: op for op in made.observed.graph.weighted()}
    rows = (
        _figures(made, before.get(op.name), op, isolated, accumulated)
        for op, isolated, accumulated in _noises(made, images)
    )
    return len(images), tuple(rows)


def _count(quantized: QuantizedGraph) -> int:
    largest = max(4 * int(np.prod(shape[1:])) for shape in quantized.graph.shapes.values())
    return int(np.clip(BYTES // largest, 1, IMAGES))


def _figures(made: Quantization, before: Op | None, op: Op, isolated: float, accumulated: float) -> LayerFigures:
    params = None if made.graph.is_float(op) else made.graph.params(op)[op.output]
    return LayerFigures(
        layer=op.name,
        kind=op.kind,
        weights=(None if before is None else _of_weights(before), _of_weights(op)),
        values=(None if before is None else _of_values(made.observed, before), _of_values(made.conditioned, op)),
        covered=None if params is None else params.range,
        dtype="float32" if params is None else params.dtype,
        sqnr_isolated=isolated,
        sqnr_accumulated=accumulated,
    )


def _of_weights(op: Op) -> ValueRange:
    kernel = op.weights()[0]
    channels = kernel.reshape(-1, kernel.shape[-1]) if op.kind != "depthwise" else kernel.reshape(-1, _outputs(op))
    return ValueRange(float(kernel.min()), float(kernel.max()), spread(np.abs(channels).max(0).astype(np.float64)))


def _outputs(op: Op) -> int:
    return int(op.weights()[1].size)


def _of_values(state: CalibratedGraph, op: Op) -> ValueRange:
    seen = state.ranges[op.output]
    return ValueRange(
        float(seen.low.min()), float(seen.high.max()), spread(np.maximum(np.abs(seen.low), np.abs(seen.high)))
    )


def _noises(made: Quantization, images: Floats) -> Iterator[tuple[Op, float, float]]:
    """Yield every weighted op with its SQNR in dB: on exact inputs, and on those of the quantized network."""
    quantized, graph = made.graph, made.graph.graph
    exact: dict[str, Any] = {graph.input: images}
    stored: dict[str, Any] = {graph.input: images}  # pixels are integers already
    last = {name: at for at, op in enumerate(graph.ops) for name in op.inputs}
    for at, op in enumerate(graph.ops):
        shape = (len(images), *graph.shapes[op.output][1:])
        wanted = activated(op, run_op(op, [exact[name] for name in op.inputs], shape))
        stored[op.output] = _integer(quantized, op, stored, shape)
        if op.kind in WEIGHTED:
            isolated = _integer(quantized, op, exact, shape)
            seen = [_seen(made.conditioned, op.output, value) for value in (wanted, isolated, stored[op.output])]
            yield op, _ratio(seen[0], seen[1]), _ratio(seen[0], seen[2])
        exact[op.output] = wanted
        for name in op.inputs:
            if last[name] == at:
                exact.pop(name, None)
                stored.pop(name, None)


def _integer(quantized: QuantizedGraph, op: Op, values: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """What the op leaves of `values`, through its integers where it has them."""
    inputs = stored_inputs(quantized, op, values)
    if op.name in quantized.weights and not quantized.is_float(op):
        weights = quantized.weights[op.name]
        scales = np.float32(quantized.params(op)[op.inputs[0]].scale) * weights.scales
        op = replace(real_weights(op, weights), bias=(weights.bias * scales).astype(np.float32))
    return stored_output(quantized, op, activated(op, run_op(op, inputs, shape)))


def _seen(state: CalibratedGraph, name: str, values: Any) -> Floats:
    """Without what lies beyond bounds that the ops behind it set."""
    found: Floats = np.asarray(values, np.float32)
    if name in state.floors:
        found = np.maximum(found, state.floors[name].astype(np.float32))
    return np.minimum(found, state.ceilings[name].astype(np.float32)) if name in state.ceilings else found


def _ratio(wanted: Floats, found: Floats) -> float:
    noise = (wanted - found).ravel()
    return decibel(float(np.dot(wanted.ravel(), wanted.ravel())), float(np.dot(noise, noise)))
