"""The ladder: recipes tried one after the other, cheapest on the device first, until one keeps the accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.errors import MbnError
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.graph.graph import Graph
from mbn_deploy.graph.quantized import INT16X8
from mbn_deploy.pipeline.options import Request
from mbn_deploy.quantize.integers import Granularity
from mbn_deploy.quantize.quantize import Quantization
from mbn_deploy.quantize.recipe import FAST, INT8, INT16, LADDER, Recipe, recipe
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.system.temporary import scratch
from mbn_deploy.verify.guard import RecipeResult, recipe_record, sentence

WORST = 5  # layers that a failure names
DIAGNOSED = 8  # images for that
TIMED_RUNS = 30


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one recipe gave: the quantized graph and the files made from it."""

    recipe: Recipe
    quantization: Quantization
    files: tuple[EncodedModel, ...]


@dataclass(frozen=True, eq=False)
class Climb:
    """The attempt that held (or the only one, where nothing was asked of it), and every rung that was tried.

    `last` is the attempt of the last rung; `held` is the same or `None`.
    """

    held: Attempt | None
    last: Attempt
    rungs: tuple[RecipeResult, ...]

    def facts(self) -> dict[str, Any]:
        """What the manifest keeps: how the int8 files were made, and what else was tried on the same images."""
        tried = {"rungs": [recipe_record(rung) for rung in self.rungs]} if self.rungs else {}
        return (dict(self.held.quantization.record) if self.held is not None else {}) | tried


def ladder_of(precision: str, graph: Graph, request: Request) -> tuple[Recipe, ...]:
    """The recipes to try on `graph` for files of a precision that the request names: int16x8 has one."""
    if precision == INT16X8:
        return (replace(INT16, granularity=cast("Granularity", request.granularity)),)
    return rungs_for(graph, request.recipe, request.granularity, request.float_layers, request.int16_layers)


def rungs_for(
    graph: Graph, name: str | None, granularity: str, float_layers: Sequence[str], int16_layers: Sequence[str] = ()
) -> tuple[Recipe, ...]:
    """The recipes of int8 to try on `graph`: the one called `name`, or the ladder.

    Recipes that differ from an earlier one in nothing that the graph has (its h-swishes) are left out.
    """
    chosen = LADDER if name is None else (recipe(name),)
    kind = cast("Granularity", granularity)
    floats, wide = tuple(float_layers), tuple(int16_layers)
    adapted = [replace(r, granularity=kind, float_layers=floats, int16_layers=wide) for r in chosen]
    if any(op.kind == "hard_swish" for op in graph.ops):
        return tuple(adapted)
    kept: dict[Recipe, Recipe] = {}
    for made in adapted if name is not None else [r for r in adapted if r.name != FAST.name]:
        alike = replace(made, name="", hard_swish="single_conv", duplicate_threshold=0.0, split_vectors=False)
        kept.setdefault(alike, made)
    return tuple(kept.values())


def climb(
    recipes: Sequence[Recipe], attempt: Callable[[Recipe], Attempt], measure: Callable[[Attempt], RecipeResult] | None
) -> Climb:
    """Try `recipes` in order until one holds by `measure`.

    Without a measure nothing says whether the fast one would do: `int8` is taken, or the first where it is not there.
    """
    if measure is None:
        recipes = [next((r for r in recipes if r.name == INT8.name), recipes[0])]
    rungs: list[RecipeResult] = []
    for tried in recipes:
        last = attempt(tried)
        if measure is None:
            return Climb(last, last, ())
        rungs.append(measure(last))
        if rungs[-1].holds:
            return Climb(last, last, tuple(rungs))
    return Climb(None, last, tuple(rungs))


def latency(file: EncodedModel) -> float:
    """Median milliseconds of one inference on one thread."""
    backend = open_backend(file.data, file.format, threads=1, where=file.name)
    try:
        image = np.zeros(backend.input.shape, backend.input.dtype)
        seconds = []
        for _ in range(TIMED_RUNS):
            start = time.perf_counter()
            backend.run(image)
            seconds.append(time.perf_counter() - start)
    finally:
        backend.close()
    return 1e3 * float(np.median(seconds))


def failure(found: Climb, float_files: Sequence[EncodedModel], data: Path, max_drop: float) -> str:
    """Why there is no int8 file: every rung, and the layers that hurt most on the last one."""
    tried = "; ".join(f"{rung.recipe}: {sentence(rung.verdict, max_drop)}" for rung in found.rungs)
    worst = _worst(found, float_files, data)
    return f"no {found.last.recipe.asked} file keeps the accuracy within {max_drop:g} points. Tried: {tried}. {worst}"


def _worst(found: Climb, float_files: Sequence[EncodedModel], data: Path) -> str:
    file = found.last.files[0]
    reference = next((f for f in float_files if f.format == file.format and f.precision == "float32"), None)
    if reference is None or not data.is_dir():
        return "Export float32 too, and see with: mbn-deploy inspect INT8 --reference FLOAT32 --data IMAGES"
    try:
        with scratch("diagnosis") as folder:
            for made in (file, reference):
                (folder / made.name).write_bytes(made.data)
            report = diagnose(folder / file.name, folder / reference.name, data, count=DIAGNOSED)
    except (MbnError, OSError) as error:  # the verdict stands without it
        return f"Which layers hurt could not be found: {error}"
    return "The layers that hurt most: " + ", ".join(row.layer for row in report.layers[:WORST])
