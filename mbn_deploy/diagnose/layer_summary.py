"""Summarize what quantization did to each layer: ranges before and after the passes, and the error on a few images.

This is the quick alternative to `diagnose`, made from values that `quantize` has at hand. The quantized graph is run as
in bias correction, in float with every value rounded to its levels, beside the float graph after all passes. Both hold
each channel at the same scale, so nothing has to be matched. `diagnose` measures the files themselves, and what each
layer does to the output.
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

IMAGES = 4  # most tensors have thousands of values in each
BYTES = 2**27  # fewer images if the largest tensor would exceed this


@dataclass(frozen=True)
class ValueRange:
    """The smallest and the largest of a layer's weights, or of the values that it writes.

    `spread` is the largest absolute value of a channel, the largest over the median of all channels; None if all values
    are zero.
    """

    low: float
    high: float
    spread: float | None


@dataclass(frozen=True)
class LayerFigures:
    """A convolution or dense layer of the quantized graph.

    Attributes:
        layer: name of the layer.
        kind: kind of the op, as in `graph.graph.OpKind`.
        weights: range of the weights before and after the passes. The former is None for a layer that a pass added,
            as the second convolution before an h-swish.
        values: range of the values before and after the passes.
        covered: range that the integers of the result cover; None for a layer that computes in float.
        dtype: type of the result.
        sqnr_isolated: signal to quantization noise ratio in dB on exact inputs.
        sqnr_accumulated: the ratio as the network runs. Both are of the values that the next layer reads.
    """

    layer: str
    kind: str
    weights: tuple[ValueRange | None, ValueRange]
    values: tuple[ValueRange | None, ValueRange]
    covered: tuple[float, float] | None
    dtype: str
    sqnr_isolated: float
    sqnr_accumulated: float


def summarize_layers(quantization: Quantization, calibration: CalibrationSet) -> tuple[int, tuple[LayerFigures, ...]]:
    """Return the number of images used, the first of `calibration`, and the weighted layers in network order."""
    images = normalize(calibration.pixels[: image_count(quantization.graph)], quantization.preprocess)
    before = {op.name: op for op in quantization.observed.graph.weighted()}
    rows = (
        _figures(quantization, before.get(op.name), op, isolated, accumulated)
        for op, isolated, accumulated in _noise_ratios(quantization, images)
    )
    return len(images), tuple(rows)


def image_count(quantized: QuantizedGraph) -> int:
    """Return on how many images layers are compared, so that the largest tensor stays below `BYTES`."""
    largest = max(4 * int(np.prod(shape[1:])) for shape in quantized.graph.shapes.values())
    return int(np.clip(BYTES // largest, 1, IMAGES))


def _figures(
    quantization: Quantization, before: Op | None, op: Op, isolated: float, accumulated: float
) -> LayerFigures:
    graph = quantization.graph
    params = None if graph.is_float(op) else graph.params(op)[op.output]
    return LayerFigures(
        layer=op.name,
        kind=op.kind,
        weights=(None if before is None else weight_range(before), weight_range(op)),
        values=(
            None if before is None else _value_range(quantization.observed, before),
            _value_range(quantization.conditioned, op),
        ),
        covered=None if params is None else params.range,
        dtype="float32" if params is None else params.dtype,
        sqnr_isolated=isolated,
        sqnr_accumulated=accumulated,
    )


def weight_range(op: Op) -> ValueRange:
    """Return the range of an op's kernel."""
    kernel, bias = op.weights()
    channels = kernel.reshape(-1, bias.size if op.kind == "depthwise" else kernel.shape[-1])
    return ValueRange(float(kernel.min()), float(kernel.max()), spread(np.abs(channels).max(0).astype(np.float64)))


def _value_range(state: CalibratedGraph, op: Op) -> ValueRange:
    seen = state.ranges[op.output]
    largest = np.maximum(np.abs(seen.low), np.abs(seen.high))
    return ValueRange(float(seen.low.min()), float(seen.high.max()), spread(largest))


def _noise_ratios(quantization: Quantization, images: Floats) -> Iterator[tuple[Op, float, float]]:
    """Yield every weighted op with its signal to noise ratios in dB, on exact inputs and on quantized ones."""
    quantized, graph = quantization.graph, quantization.graph.graph
    exact: dict[str, Any] = {graph.input: images}
    stored: dict[str, Any] = {graph.input: images}  # pixels are integers already
    last = {name: at for at, op in enumerate(graph.ops) for name in op.inputs}
    for at, op in enumerate(graph.ops):
        shape = (len(images), *graph.shapes[op.output][1:])
        expected = activated(op, run_op(op, [exact[name] for name in op.inputs], shape))
        stored[op.output] = _quantized_result(quantized, op, stored, shape)
        if op.kind in WEIGHTED:
            isolated = _quantized_result(quantized, op, exact, shape)
            e, i, a = (
                relevant_values(quantization.conditioned, op.output, value)
                for value in (expected, isolated, stored[op.output])
            )
            yield op, _ratio(e, i), _ratio(e, a)
        exact[op.output] = expected
        for name in op.inputs:
            if last[name] == at:
                exact.pop(name, None)
                stored.pop(name, None)


def _quantized_result(quantized: QuantizedGraph, op: Op, values: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """Run `op` on `values` as the quantized graph does, with its integers as real numbers."""
    inputs = stored_inputs(quantized, op, values)
    if op.name in quantized.weights and not quantized.is_float(op):
        weights = quantized.weights[op.name]
        scales = np.float32(quantized.params(op)[op.inputs[0]].scale) * weights.scales
        op = replace(real_weights(op, weights), bias=(weights.bias * scales).astype(np.float32))
    return stored_output(quantized, op, activated(op, run_op(op, inputs, shape)))


def relevant_values(state: CalibratedGraph, name: str, values: Any) -> Floats:
    """Clip values of the tensor `name` to the bounds beyond which they make no difference to the ops that read it."""
    clipped: Floats = np.asarray(values, np.float32)
    if name in state.floors:
        clipped = np.maximum(clipped, state.floors[name].astype(np.float32))
    return np.minimum(clipped, state.ceilings[name].astype(np.float32)) if name in state.ceilings else clipped


def _ratio(expected: Floats, given: Floats) -> float:
    noise = (expected - given).ravel()
    return decibel(float(np.dot(expected.ravel(), expected.ravel())), float(np.dot(noise, noise)))
