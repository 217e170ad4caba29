"""Quantize a float graph: one calibration gives one quantized graph, from which both file formats are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import INT8_STEPS, INT16_MAX, INT16X8, QuantizedGraph
from mbn_deploy.graph.rescaling import IDENTITY, Rescaling
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.calibration_checks import unsteady_ranges
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.lowering import CHOICE_IMAGES, lower
from mbn_deploy.quantize.mixed_precision import (
    check_int16,
    float_only_warnings,
    float_outputs,
    int16_outputs,
    layer_outputs,
    without_integer_form,
)
from mbn_deploy.quantize.passes.absorb import absorb
from mbn_deploy.quantize.passes.bias import bias_image_count, correct_biases
from mbn_deploy.quantize.passes.bounds import fuse_bounds
from mbn_deploy.quantize.passes.equalize import equalize
from mbn_deploy.quantize.passes.hard_swish import GATE_BOUND
from mbn_deploy.quantize.passes.lower import pixel_input
from mbn_deploy.quantize.passes.split import split_vectors
from mbn_deploy.quantize.range_choice import narrow_ranges
from mbn_deploy.quantize.ranges import CalibratedGraph, observe
from mbn_deploy.quantize.recipe import INT8, Recipe
from mbn_deploy.runtime.preprocess import normalize


@dataclass(frozen=True, eq=False)
class Quantization:
    """A quantized graph and how it came about.

    Attributes:
        graph: the quantized graph.
        preprocess: how pixels become its input, whose integers are the pixels themselves.
        record: what the manifest records, as JSON values.
        observed: the lowered float graph with the ranges that calibration saw.
        conditioned: the float graph and the ranges after all passes, of which the integers were made.
        rescalings: by tensor of the float graph, what the passes did to the scale and the centre of its channels.
            Tensors that are not there were left as they are, or have no counterpart in the quantized graph.
        warnings: about ops without an integer form, and ranges that differ between the calibration images.
    """

    graph: QuantizedGraph
    preprocess: Preprocess
    record: dict[str, Any]
    observed: CalibratedGraph
    conditioned: CalibratedGraph
    rescalings: dict[str, Rescaling]
    warnings: tuple[str, ...] = ()


def quantize(
    graph: Graph,
    preprocess: Preprocess,
    calibration: CalibrationSet,
    recipe: Recipe = INT8,
    progress: Progress = silent,
) -> Quantization:
    """Quantize the folded `graph` (batch 1) by `recipe`, with ranges from the images of `calibration`.

    Raises:
        InputError: the graph has an op without an integer form, or one without a form of 16 bits that should have it.
        UnknownNameError: the recipe names a layer that the graph does not have.
    """
    pixels = pixel_input(graph, preprocess)

    def images(count: int | None = None) -> Iterator[Floats]:
        return (normalize(image, pixels.preprocess)[None] for image in calibration.pixels[:count])

    float_only = without_integer_form(pixels.graph) if recipe.activations == "int8" else []
    in_float = float_outputs(pixels.graph, recipe.float_blocks, recipe.float_layers)
    in_float |= {op.output for op in float_only}
    layer_outputs(pixels.graph, recipe.int16_layers)  # raises for names that the lowered graph would not miss
    lowered = lower(pixels.graph, recipe, images(CHOICE_IMAGES), in_float)
    ranges = observe(lowered.graph, images(), len(calibration), progress)
    sixfold = dict.fromkeys(lowered.sixfold, IDENTITY.scaled(np.array([GATE_BOUND])))
    observed = CalibratedGraph(lowered.graph, ranges, lowered.floors, sixfold)
    state = _rescale(observed, recipe)
    in_int16 = _int16_outputs(state.graph, recipe) - in_float
    check_int16(state.graph, in_int16)
    if recipe.split_vectors:
        state = split_vectors(state, in_float | in_int16)
    if recipe.ranges == "mse":  # 16 bits have levels enough for all that was seen
        state = narrow_ranges(state, images(), keep=in_int16)
    quantized = quantize_graph(
        state, pixels.params, granularity=recipe.granularity, float_outputs=in_float, int16_outputs=in_int16
    )
    if recipe.correct_biases:
        first = calibration.pixels[: bias_image_count(state.graph)]
        quantized = correct_biases(quantized, normalize(first, pixels.preprocess), progress)
    return Quantization(
        graph=quantized,
        preprocess=pixels.preprocess,
        record=_record(quantized, state, calibration, recipe),
        observed=observed,
        conditioned=state,
        rescalings=_rescalings(graph, state),
        warnings=(*float_only_warnings(float_only), *unsteady_ranges(ranges)),
    )


def _rescale(state: CalibratedGraph, recipe: Recipe) -> CalibratedGraph:
    """Shift and scale channels as the recipe says."""
    steps = INT8_STEPS if recipe.activations == "int8" else INT16_MAX
    if recipe.absorb:
        state = absorb(state)
    if recipe.equalize:
        state = equalize(state, recipe.granularity, steps)
    return fuse_bounds(state, steps)


def _int16_outputs(graph: Graph, recipe: Recipe) -> frozenset[str]:
    """Return the outputs of the ops whose activations have 16 bits."""
    if recipe.activations == "int16":
        return frozenset(op.output for op in graph.ops)
    return int16_outputs(graph, recipe.int16_layers)


def _rescalings(graph: Graph, state: CalibratedGraph) -> dict[str, Rescaling]:
    """Return the rescalings of the tensors that the float `graph` and the rewritten one have in common."""
    common = (name for name in graph.shapes if state.graph.shapes.get(name) == graph.shapes[name])
    return {name: state.rescalings[name] for name in common if name in state.rescalings}


def _record(
    quantized: QuantizedGraph, state: CalibratedGraph, calibration: CalibrationSet, recipe: Recipe
) -> dict[str, Any]:
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
        "int16_layers": [] if quantized.precision == INT16X8 else names(quantized.is_int16),
        "dead_channels": {name: count for name, count in dead.items() if count},
        "calibration": {"images": len(calibration), "sha256": calibration.sha256},
    }
