"""One calibration, one quantized graph: what int8 TFLite and int8 ONNX are both written from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import INT16_MAX, INT16X8, LEVELS, QuantizedGraph
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.calibration_checks import unsteady
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.mixed_precision import float_region, wide_region
from mbn_deploy.quantize.passes.absorb import absorb
from mbn_deploy.quantize.passes.bias import correct_biases
from mbn_deploy.quantize.passes.bounds import bind, free_bounds
from mbn_deploy.quantize.passes.equalize import equalize
from mbn_deploy.quantize.passes.hard_swish import (
    Lowered,
    lower_hard_swishes,
    pays_twice,
    pays_twice_in_16_bits,
    shared_noise,
)
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids, pixel_input
from mbn_deploy.quantize.passes.split import split_vectors
from mbn_deploy.quantize.range_methods import cut
from mbn_deploy.quantize.ranges import Calibrated, observe, sample
from mbn_deploy.quantize.recipe import INT8, RangeMethod, Recipe
from mbn_deploy.runtime.preprocess import normalize

# Biases are corrected on as many images as keep the largest tensor below this; more change little.
BIAS_BYTES = 2**28
# The forms of h-swish are chosen by what so many images show: averages, which few images give.
CHOICE_IMAGES = 50


@dataclass(frozen=True, eq=False)
class Quantization:
    """The quantized graph, what its input means, and what is written down about it in the manifest.

    `observed` is the float network with the ranges that its images gave, `conditioned` what became of both before
    integers were chosen.
    """

    graph: QuantizedGraph
    preprocess: Preprocess
    record: dict[str, Any]
    observed: Calibrated
    conditioned: Calibrated
    warnings: tuple[str, ...] = ()  # about the ranges that the calibration images gave


def quantize(
    graph: Graph,
    preprocess: Preprocess,
    calibration: CalibrationSet,
    recipe: Recipe = INT8,
    progress: Progress = silent,
) -> Quantization:
    """int8 of the folded `graph` (batch 1) by `recipe`, calibrated on `calibration`.

    Raises `InputError` for graphs without an integer form, `UsageError` for layers that are not there.
    """
    pixels = pixel_input(graph, preprocess)
    levels = LEVELS if recipe.activations == "int8" else INT16_MAX
    region = float_region(pixels.graph, recipe.float_blocks, recipe.float_layers)
    float_region(pixels.graph, 0, recipe.int16_layers)  # raises for names that are no layers
    lowered = _lowered(pixels.graph, region, recipe, _normalized(calibration, pixels.preprocess, CHOICE_IMAGES))
    images = _normalized(calibration, pixels.preprocess)
    ranges = observe(lowered.graph, images, len(calibration), progress)
    state = observed = Calibrated(lowered.graph, ranges, lowered.floors)
    if recipe.absorb:
        state = absorb(state)
    if recipe.equalize:
        state = equalize(state, recipe.granularity, levels)
    state = bind(state, levels)
    wide = _wide(state.graph, recipe) - region
    if recipe.split_vectors:
        state = split_vectors(state, region | wide)
    state = _cut_ranges(state, calibration, pixels.preprocess, recipe, wide)
    quantized = quantize_graph(
        state, pixels.params, granularity=recipe.granularity, float_outputs=region, wide_outputs=wide
    )
    if recipe.correct_biases:
        quantized = correct_biases(quantized, _bias_images(state.graph, calibration, pixels.preprocess), progress)
    record = _quantization_record(quantized, state, calibration, recipe)
    return Quantization(quantized, pixels.preprocess, record, observed, state, unsteady(ranges))


def _lowered(graph: Graph, region: frozenset[str], recipe: Recipe, images: Iterator[Floats]) -> Lowered:
    """The graph in integer form, but for the ops that write `region`; `images` show which form of h-swish pays."""

    def twin(lowered: Graph, op: Op) -> bool:
        pays = pays_twice_in_16_bits if recipe.activations == "int16" else pays_twice
        return recipe.hard_swish == "twin" or (
            recipe.hard_swish == "economical" and op.output in worth and pays(lowered, op)
        )

    graph = absorb_hard_sigmoids(graph, region)
    worth = _worth_twins(graph, recipe, images)
    if recipe.granularity == "per-tensor" and recipe.equalize:
        graph = free_bounds(graph, region)
    return lower_hard_swishes(graph, twin, region)


def _wide(graph: Graph, recipe: Recipe) -> frozenset[str]:
    """Outputs of the ops whose activations have 16 bits."""
    if recipe.activations == "int16":
        return frozenset(op.output for op in graph.ops)
    return wide_region(graph, recipe.int16_layers)


def _worth_twins(graph: Graph, recipe: Recipe, images: Iterator[Floats]) -> frozenset[str]:
    """Results of the h-swishes to which the shared form does more than the recipe lets pass."""
    swishes = [op for op in graph.ops if op.kind == "hard_swish"]
    if recipe.twin_above == 0 or not swishes:
        return frozenset(op.output for op in swishes)
    seen = observe(graph, images, CHOICE_IMAGES)
    writers = graph.writers()
    return frozenset(
        op.output
        for op in swishes
        if graph.input in writers[op.inputs[0]].inputs
        or shared_noise(seen[op.inputs[0]], seen[op.output]) > recipe.twin_above
    )


def _cut_ranges(
    state: Calibrated, calibration: CalibrationSet, preprocess: Preprocess, recipe: Recipe, wide: frozenset[str]
) -> Calibrated:
    """Ranges by the recipe's methods, from a second look at the images where that is needed.

    Those in `wide` have levels enough for all that was seen.
    """
    methods = {op.output: _method(state, op, recipe) for op in state.graph.ops if op.output not in wide}
    names = [name for name, method in methods.items() if method != "min-max"]
    if not names:
        return state
    values = sample(state.graph, names, _normalized(calibration, preprocess))
    ranges = dict(state.ranges)
    for name in names:
        low, high = state.useful(name)
        kept = cut(np.maximum(values[name], low.min()), (float(low.min()), float(high.max())), methods[name])
        ranges[name] = state.ranges[name].within(*kept)
    return replace(state, ranges=ranges)


def _method(state: Calibrated, op: Op, recipe: Recipe) -> RangeMethod:
    """By kind of tensor; what an activation bounds keeps its clean range, and constants their grid."""
    if op.activation in ("relu6", "unit") or op.kind in ("softmax", "sigmoid", "add_constant"):
        return "min-max"
    shape = state.graph.shapes[op.output]
    if len(shape) == 2 or shape[1:3] == (1, 1):
        return recipe.vector
    return recipe.one_sided if state.useful(op.output)[0].min() >= 0 else recipe.two_sided


def _normalized(calibration: CalibrationSet, preprocess: Preprocess, count: int | None = None) -> Iterator[Floats]:
    """The images one by one, (1, H, W, C); the first `count` of them."""
    return (normalize(image, preprocess)[None] for image in calibration.pixels[:count])


def _bias_images(graph: Graph, calibration: CalibrationSet, preprocess: Preprocess) -> Floats:
    largest = max(4 * int(np.prod(shape[1:])) for shape in graph.shapes.values())
    return normalize(calibration.pixels[: max(8, BIAS_BYTES // largest)], preprocess)


def _quantization_record(
    quantized: QuantizedGraph, state: Calibrated, calibration: CalibrationSet, recipe: Recipe
) -> dict[str, Any]:
    """What the manifest keeps."""
    dead = {
        op.output: int((state.useful(op.output)[1] <= 0).sum())
        for op in state.graph.ops
        if op.kind in WEIGHTED and op.activation in ("relu", "relu6")
    }

    def names(chosen: Callable[[Op], bool]) -> list[str]:
        return [op.name for op in quantized.graph.ops if chosen(op)]

    return {
        "recipe": recipe.to_dict(),
        "precision": quantized.precision,
        "float_layers": names(quantized.is_float),
        "int16_layers": [] if quantized.precision == INT16X8 else names(quantized.is_wide),
        "dead_channels": {name: count for name, count in dead.items() if count},
        "calibration": {"images": len(calibration), "sha256": calibration.sha256},
    }
