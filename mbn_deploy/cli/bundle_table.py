"""A bundle as a table: its files with size and, where it was measured, accuracy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mbn_deploy.cli.common import human_bytes, plain, stdout, table

if TYPE_CHECKING:
    from mbn_deploy.bundle.open import Bundle


def print_bundle(bundle: Bundle) -> None:
    """A row a file, the float Keras model's accuracy below, and where everything lies."""
    console = stdout()
    measured = bundle.metrics.get("files", {})
    if measured:
        shown = table("file", "size", "top-1 %", "top-5 %", "agrees %")
    else:
        shown = table("file", "size", "input", "output")
    for entry in bundle.files:
        if measured:
            figures = _accuracy(measured[entry.path])
        else:
            figures = [f"{t.dtype} {'×'.join(map(str, t.shape))}" for t in (entry.input, entry.output)]
        shown.add_row(plain(entry.path), human_bytes(entry.size), *figures)
    console.print(shown)
    console.print()
    if measured:
        reference = bundle.metrics["reference"]
        console.print(
            f"{bundle.metrics['images']} images of {plain(bundle.metrics['dataset'])!r}; "
            f"Keras itself: top-1 {_percent(reference['top1'])} %, top-5 {_percent(reference['top5'])} %; "
            "agrees: the same first answer as Keras."
        )
    names = ", ".join(n for n in ("manifest.json", bundle.manifest.labels, bundle.manifest.golden) if n is not None)
    console.print(f"In {plain(str(bundle.folder))} with {plain(names)}.", soft_wrap=True)


def bundle_json(bundle: Bundle) -> dict[str, Any]:
    """The manifest, with where the bundle lies, the seconds of each step and the warnings."""
    manifest: dict[str, Any] = json.loads(bundle.manifest.to_json())
    return {
        "folder": str(bundle.folder),
        "manifest": manifest,
        "timings": bundle.timings,
        "warnings": list(bundle.warnings),
    }


def _accuracy(measured: dict[str, Any]) -> list[str]:
    return [_percent(measured[key]) for key in ("top1", "top5", "agreement")]


def _percent(estimate: dict[str, float]) -> str:
    return f"{100 * estimate['value']:.1f}"
