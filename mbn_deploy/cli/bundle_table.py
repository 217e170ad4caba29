"""The result of an export as a table of files with their size and accuracy, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbn_deploy.answers import Meaning
from mbn_deploy.cli.output import human_bytes, plain, stdout, table
from mbn_deploy.manifest import MANIFEST_NAME, REPORT_NAME
from mbn_deploy.verify.measures.measure import METRICS, Metric, shown_metrics

if TYPE_CHECKING:
    from mbn_deploy.pipeline.export import ExportResult
    from mbn_deploy.verify.guard import RecipeResult

AGREES: dict[Meaning, str] = {
    "classes": "agrees: same top-1 class as Keras",
    "binary": "agrees: same decision as Keras",
    "labels": "agrees: same decision as Keras, label by label",
    "values": "distance: from the values of Keras",
    "embedding": "agrees: same nearest picture as with Keras; cosine: to the vectors of Keras",
}

# What is said of a bundle without labels.
_UNNAMED: dict[Meaning, str] = {
    "classes": "Classes have only numbers; --labels FILE gives them names.",
    "labels": "Labels have only numbers; --labels FILE gives them names.",
    "binary": "They are called negative and positive; --labels FILE gives them names, in this order.",
    "values": "Values have only numbers; --labels FILE gives them names.",
}


def print_result(result: ExportResult) -> None:
    """Print a row per file, the accuracy of the Keras model, the recipes that were tried, and the folder."""
    console, bundle = stdout(), result.bundle
    measured = bundle.metrics.get("files", {})
    keys = shown_metrics(measured.values())
    if measured:
        shown = table("file", "size", *(METRICS[key].short for key in keys))
    else:
        shown = table("file", "size", "input", "output")
    for entry in bundle.files:
        if measured:
            figures = [figure_text(METRICS[key], measured[entry.path].get(key)) for key in keys]
        else:
            figures = [f"{t.dtype} {'×'.join(map(str, t.shape))}" for t in (entry.input, entry.output)]
        shown.add_row(plain(entry.path), human_bytes(entry.size), *figures)
    console.print(shown)
    console.print()
    if measured:
        console.print(
            f"{bundle.metrics['images']} images of {plain(bundle.metrics['dataset'])!r}; {_reference(bundle.metrics)}"
            f"{AGREES[bundle.manifest.answers.meaning]}."
        )
    tried = [recipe for search in result.searches for recipe in search.results]
    if tried:
        _print_recipes(tried)
        console.print()
    report = REPORT_NAME if (bundle.folder / REPORT_NAME).is_file() else None
    beside = (MANIFEST_NAME, bundle.manifest.labels, bundle.manifest.golden, report)
    names = ", ".join(name for name in beside if name is not None)
    console.print(f"In {plain(str(bundle.folder))} with {plain(names)}.", soft_wrap=True)
    answers = bundle.manifest.answers
    resized = bundle.files[0].preprocess
    console.print(f"Pictures are resized with --resize {resized.resize}: {resized.resize_about}.", soft_wrap=True)
    unnamed = bundle.manifest.labels is None and answers.meaning != "embedding"
    console.print(
        f"Answers with {answers.described(bundle.manifest.classes)}."
        + (f" {_UNNAMED[answers.meaning]}" if unnamed else ""),
        soft_wrap=True,
    )


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
        agreement, size = result.verdict.agreement, human_bytes(result.size)
        agrees = "-" if agreement is None else f"{100 * agreement.value:.1f}"
        rows.add_row(result.recipe, *loss, agrees, size, f"{result.latency_ms:.2f}", "holds" if result.holds else "no")
    console = stdout()
    console.print()
    console.print(f"Recipes tried on these images: {len(tried)} (ms: one thread)")
    console.print(rows)


def _reference(metrics: dict[str, Any]) -> str:
    """Say what the Keras model is worth on these pixels, and on those of its training's loader."""
    parts = []
    if metrics["labelled"]:
        parts.append(f"Keras itself on these pixels: {_figures(metrics['reference'])}")
    else:
        parts.append("without labels")
    loader = metrics.get("reference_loader")
    if loader is not None:
        parts.append(f"on those of {loader['loader']}: {_figures(loader)}")
    return "; ".join(parts) + "; "


def _figures(record: dict[str, Any]) -> str:
    return ", ".join(_with_title(METRICS[key], record[key]) for key in shown_metrics([record]))


def _with_title(metric: Metric, value: Mapping[str, float]) -> str:
    return f"{metric.title} {figure_text(metric, value)}{' %' if metric.unit == 'share' else ''}"


def figure_text(metric: Metric, value: Mapping[str, float] | float | None) -> str:
    """Write a figure without its interval: a share in percent, a number with four digits."""
    if value is None:
        return "-"
    plain_value = value["value"] if isinstance(value, Mapping) else value
    if metric.unit == "cosine":
        return f"{plain_value:.4f}"
    return f"{100 * plain_value:.1f}" if metric.unit == "share" else f"{plain_value:.4g}"
