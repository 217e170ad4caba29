"""From what an export has at hand to the values of the page; the little that is missing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.export.files import Encoded
from mbn_deploy.images import Pixels, load_image
from mbn_deploy.ladder import Climb
from mbn_deploy.manifest import Manifest, Preprocess
from mbn_deploy.quantize.by_layer import by_layer
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.report.data import Examples, Layers, Report
from mbn_deploy.report.examples import Watch, choose, examples
from mbn_deploy.report.page import page
from mbn_deploy.runtime.device import this_machine
from mbn_deploy.verify.dataset import Dataset
from mbn_deploy.verify.latency import latencies


@dataclass(frozen=True, eq=False)
class Sources:
    """What the page is made from. `watch` saw every picture of `dataset`, which is resized as `geometry` says.

    `pictures`: whether the page shows them; what the models said of them it always does.
    """

    folder: Path
    manifest: Manifest
    labels: Sequence[str] | None
    files: Sequence[Encoded]
    climbs: Sequence[Climb]
    calibration: CalibrationSet | None
    dataset: Dataset | None
    geometry: Preprocess
    size: tuple[int, int]
    watch: Watch | None
    max_drop: float | None
    warnings: tuple[str, ...]
    pictures: bool


def report_html(sources: Sources) -> bytes:
    """The page's bytes."""
    report = Report(
        folder=sources.folder.resolve().name,
        manifest=sources.manifest,
        machine=str(this_machine()),
        latencies=latencies({file.name: (file.data, file.format) for file in sources.files}),
        rungs=tuple(rung for climb in sources.climbs for rung in climb.rungs),
        max_drop=sources.max_drop,
        layers=_layers(sources.climbs, sources.calibration),
        examples=_examples(sources),
        warnings=sources.warnings,
    )
    return page(report).encode()


def _layers(climbs: Sequence[Climb], calibration: CalibrationSet | None) -> tuple[Layers, ...]:
    if calibration is None:
        return ()
    found = []
    for climb in climbs:
        made = climb.last.quantization
        images, rows = by_layer(made, calibration)
        found.append(Layers(climb.last.recipe.name, made.graph.precision, climb.held is not None, images, rows))
    return tuple(found)


def _examples(sources: Sources) -> Examples | None:
    """With the pixels that the models saw."""
    watch, dataset = sources.watch, sources.dataset
    if watch is None or watch.file is None or dataset is None:
        return None
    truths = [int(index) for index in dataset.classes] if dataset.labelled else None

    def pixels(image: int) -> Pixels | None:
        return load_image(dataset.paths[image], sources.size, sources.geometry).pixels if sources.pictures else None

    shown = {image: (dataset.paths[image].name, pixels(image)) for image in choose(watch, truths)}
    return examples(watch, truths, sources.labels, shown)
