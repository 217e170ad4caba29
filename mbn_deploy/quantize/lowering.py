"""Rewrite a float graph so that every op has an integer form."""

from __future__ import annotations

from collections.abc import Iterator

from mbn_deploy.arrays import Floats
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.quantize.passes.bounds import split_relu6
from mbn_deploy.quantize.passes.hard_swish import (
    LoweredGraph,
    duplication_pays,
    duplication_pays_int16,
    lower_hard_swishes,
    single_conv_noise,
)
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.ranges import observe
from mbn_deploy.quantize.recipe import Recipe

# The form of each h-swish is chosen by averages over the images, for which these are enough.
CHOICE_IMAGES = 50


def lower(graph: Graph, recipe: Recipe, images: Iterator[Floats], keep: frozenset[str] = frozenset()) -> LoweredGraph:
    """Rewrite `graph` as `recipe` says; ops that write the tensors `keep` compute in float and stay.

    `images`, arrays (1, H, W, C), show which form of h-swish pays; none is read unless the recipe has a threshold.
    """
    graph = absorb_hard_sigmoids(graph, keep)
    candidates = _noisy_swishes(graph, recipe, images) if recipe.hard_swish == "automatic" else frozenset()
    pays = duplication_pays_int16 if recipe.activations == "int16" else duplication_pays

    def duplicate(graph: Graph, op: Op) -> bool:
        return recipe.hard_swish == "duplicated_conv" or (op.output in candidates and pays(graph, op))

    if recipe.granularity == "per-tensor" and recipe.equalize:
        graph = split_relu6(graph, keep)
    return lower_hard_swishes(graph, duplicate, keep)


def _noisy_swishes(graph: Graph, recipe: Recipe, images: Iterator[Floats]) -> frozenset[str]:
    """Return the outputs of the h-swishes that lose more than the threshold with a single convolution."""
    swishes = [op for op in graph.ops if op.kind == "hard_swish"]
    if recipe.duplicate_threshold == 0 or not swishes:
        return frozenset(op.output for op in swishes)
    ranges = observe(graph, images, CHOICE_IMAGES)
    writers = graph.writers()
    return frozenset(
        op.output
        for op in swishes
        if graph.input in writers[op.inputs[0]].inputs
        or single_conv_noise(ranges[op.inputs[0]], ranges[op.output]) > recipe.duplicate_threshold
    )
