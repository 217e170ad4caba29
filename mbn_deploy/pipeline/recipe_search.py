"""The search for a quantization recipe: the fastest on a device first, until one keeps the accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mbn_deploy.arrays import Floats
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.graph.graph import Graph
from mbn_deploy.graph.quantized import INT16X8
from mbn_deploy.pipeline.encoding import Attempt, encode_quantized
from mbn_deploy.pipeline.evaluation import evaluate_files
from mbn_deploy.pipeline.images import ExportImages
from mbn_deploy.pipeline.options import QUANTIZED, ExportOptions
from mbn_deploy.pipeline.source import Source
from mbn_deploy.pipeline.steps import StepTimer
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.recipe import FAST, INT8, INT16, LADDER, Recipe, recipe
from mbn_deploy.verify.golden_inputs import golden_pixels
from mbn_deploy.verify.guard import RecipeResult, judge, recipe_record
from mbn_deploy.verify.interpreter_process import FileToRun, run_files
from mbn_deploy.verify.latency import latencies


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The recipes that were tried for a precision.

    Attributes:
        precision: the precision that was requested, `int8` or `int16x8`.
        accepted: the attempt whose files go into the bundle; None if no recipe keeps the accuracy.
        last_tried: the last attempt; the accepted one, if there is one.
        results: what each recipe that was tried loses; empty if no limit was given.
    """

    precision: str
    accepted: Attempt | None
    last_tried: Attempt
    results: tuple[RecipeResult, ...]

    def record(self) -> dict[str, Any]:
        """Return what the manifest keeps: how the files were quantized, and what else was tried."""
        tried = {"rungs": [recipe_record(result) for result in self.results]} if self.results else {}
        return (dict(self.accepted.quantization.record) if self.accepted is not None else {}) | tried


def search_recipes(
    source: Source, images: ExportImages, keras: Floats | None, options: ExportOptions, timer: StepTimer
) -> tuple[SearchResult, ...]:
    """Search a recipe for each quantized precision of the options.

    Args:
        source: the model.
        images: to calibrate on, and to measure the accuracy on.
        keras: the scores of the Keras model for the images of the evaluation.
        options: say what is wanted.
        timer: measures the steps.
    """
    if images.calibration is None:
        return ()
    return tuple(
        search_recipe(precision, source, images, keras, images.calibration, options=options, timer=timer)
        for precision in options.quantized
    )


def search_recipe(
    precision: str,
    source: Source,
    images: ExportImages,
    keras: Floats | None,
    calibration: CalibrationSet,
    *,
    options: ExportOptions,
    timer: StepTimer,
) -> SearchResult:
    """Try recipes in order until the files of one keep within `options.max_drop`; without it, take the first."""
    results: list[RecipeResult] = []
    for tried in recipes_to_try(precision, source.graph, options):
        attempt = encode_quantized(tried, source, calibration, options, timer)
        if options.max_drop is None:
            return SearchResult(precision, accepted=attempt, last_tried=attempt, results=())
        with timer.step("try the recipes"):
            results.append(measure_attempt(attempt, source, images, keras, options))
        if results[-1].holds:
            return SearchResult(precision, accepted=attempt, last_tried=attempt, results=tuple(results))
    return SearchResult(precision, accepted=None, last_tried=attempt, results=tuple(results))


def recipes_to_try(precision: str, graph: Graph, options: ExportOptions) -> tuple[Recipe, ...]:
    """List the recipes to try on `graph` for files of a precision; only one if no limit tells whether it will do."""
    if precision == INT16X8:
        return (replace(INT16, granularity=options.granularity),)
    recipes = int8_recipes(graph, options)
    if options.max_drop is not None:
        return recipes
    return (next((r for r in recipes if r.name == INT8.name), recipes[0]),)


def int8_recipes(graph: Graph, options: ExportOptions) -> tuple[Recipe, ...]:
    """List the int8 recipes for `graph`: the one that the options name, or the whole ladder.

    Recipes that differ from an earlier one only in how they treat h-swish are left out for a graph without it.
    """
    adapted = [
        replace(
            each,
            granularity=options.granularity,
            float_layers=tuple(options.float_layers),
            int16_layers=tuple(options.int16_layers),
        )
        for each in (LADDER if options.recipe is None else (recipe(options.recipe),))
    ]
    if any(op.kind == "hard_swish" for op in graph.ops):
        return tuple(adapted)
    distinct: dict[Recipe, Recipe] = {}
    for each in adapted if options.recipe is not None else [r for r in adapted if r.name != FAST.name]:
        without_hard_swish = replace(
            each, name="", hard_swish="single_conv", duplicate_threshold=0.0, split_vectors=False
        )
        distinct.setdefault(without_hard_swish, each)
    return tuple(distinct.values())


def measure_attempt(
    attempt: Attempt,
    source: Source,
    images: ExportImages,
    keras: Floats | None,
    options: ExportOptions,
) -> RecipeResult:
    """Measure how much accuracy the files of an attempt lose.

    They are run in another process first: a file that crashes the interpreter must not end this one.
    """
    files = attempt.files
    pixels = golden_pixels(images.calibration_pixels, source.size, source.channels, options.seed)
    runs = run_files({file.name: file_to_run(file) for file in files}, pixels)
    evaluation = evaluate_files(files, runs, source, images, keras, progress=options.progress)
    if evaluation is None or options.max_drop is None:
        raise ValueError("a limit of the accuracy loss needs images to measure it on")
    first = files[0]
    return RecipeResult(
        recipe=attempt.recipe.name,
        precision=first.precision,
        verdict=judge(evaluation, [file.name for file in files], options.max_drop),
        size=len(first.data),
        latency_ms=latencies({first.name: (first.data, first.format)})[first.name].low,
    )


def file_to_run(file: EncodedModel) -> FileToRun:
    """Return a file in the form in which another process runs it."""
    return FileToRun(
        data=file.data,
        format=file.format,
        preprocess=file.preprocess,
        layout=file.layout,
        integer=file.precision in QUANTIZED,
    )
