"""The result of an export as a table of files with their size and accuracy, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mbn_deploy.cli.output import human_bytes, plain, stdout, table
from mbn_deploy.manifest import MANIFEST_NAME, REPORT_NAME

if TYPE_CHECKING:
    from mbn_deploy.pipeline.export import ExportResult
    from mbn_deploy.verify.guard import RecipeResult


def print_result(result: ExportResult) -> None:
    """Print a row per file, the accuracy of the Keras model, the recipes that were tried, and the folder."""
    console, bundle = stdout(), result.bundle
    measured = bundle.metrics.get("files", {})
    labelled = bool(bundle.metrics.get("labelled"))
    if measured:
        shown = table("file", "size", *(("top-1 %", "top-5 %") if labelled else ()), "agrees %")
    else:
        shown = table("file", "size", "input", "output")
    for entry in bundle.files:
        if measured:
            figures = _accuracy(measured[entry.path], labelled=labelled)
        else:
            figures = [f"{t.dtype} {'×'.join(map(str, t.shape))}" for t in (entry.input, entry.output)]
        shown.add_row(plain(entry.path), human_bytes(entry.size), *figures)
    console.print(shown)
    console.print()
    if measured:
        console.print(
            f"{bundle.metrics['images']} images of {plain(bundle.metrics['dataset'])!r}; {_reference(bundle.metrics)}"
            "agrees: same top-1 class as Keras."
        )
    tried = [recipe for search in result.searches for recipe in search.results]
    if tried:
        _print_recipes(tried)
        console.print()
    report = REPORT_NAME if (bundle.folder / REPORT_NAME).is_file() else None
    beside = (MANIFEST_NAME, bundle.manifest.labels, bundle.manifest.golden, report)
    names = ", ".join(name for name in beside if name is not None)
    console.print(f"In {plain(str(bundle.folder))} with {plain(names)}.", soft_wrap=True)
    if bundle.manifest.labels is None:
        console.print("Classes have only numbers; --labels FILE gives them names.")


def result_json(result: ExportResult) -> dict[str, Any]:
    """Return the manifest, the bundle's folder, the seconds of each step, the warnings and the recipes' latencies."""
    manifest: dict[str, Any] = json.loads(result.bundle.manifest.to_json())
    return {
        "folder": str(result.bundle.folder),
        "manifest": manifest,
        "timings": result.seconds,
        "warnings": list(result.warnings),
        "latencies_ms": {tried.recipe: tried.latency_ms for search in result.searches for tried in search.results},
    }


def _print_recipes(tried: Sequence[RecipeResult]) -> None:
    """Print the recipes that the accuracy guard tried, all on the same images."""
    rows = table("recipe", "drop, points", "95 %", "agrees %", "size", "ms", "")
    for result in tried:
        drop = result.verdict.drop
        loss = ["-", "-"]
        if drop is not None:
            loss = [f"{100 * drop.value:.2f}", f"{100 * drop.low:+.2f} to {100 * drop.high:+.2f}"]
        agrees, size = f"{100 * result.verdict.agreement.value:.1f}", human_bytes(result.size)
        rows.add_row(result.recipe, *loss, agrees, size, f"{result.latency_ms:.2f}", "holds" if result.holds else "no")
    console = stdout()
    console.print()
    console.print(f"Recipes tried on these images: {len(tried)} (ms: one thread)")
    console.print(rows)


def _reference(metrics: dict[str, Any]) -> str:
    if not metrics["labelled"]:
        return "without labels; "
    reference = metrics["reference"]
    return f"Keras itself: top-1 {_percent(reference['top1'])} %, top-5 {_percent(reference['top5'])} %; "


def _accuracy(measured: dict[str, Any], *, labelled: bool) -> list[str]:
    return [_percent(measured[key]) for key in (("top1", "top5") if labelled else ()) + ("agreement",)]


def _percent(estimate: dict[str, float]) -> str:
    return f"{100 * estimate['value']:.1f}"
