"""From what an export has at hand to the values of the page; the little that is missing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mbn_deploy.data.dataset import Dataset
from mbn_deploy.data.images import load_image
from mbn_deploy.diagnose.layer_summary import summarize_layers
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.manifest import Manifest, Preprocess
from mbn_deploy.pipeline.bundle_files import REFERENCE
from mbn_deploy.pipeline.recipe_search import Climb
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.report.data import Examples, Layers, Report
from mbn_deploy.report.examples import choose, class_names, examples, preferred
from mbn_deploy.report.page import page
from mbn_deploy.runtime.system.device import this_machine
from mbn_deploy.verify.latency import latencies
from mbn_deploy.verify.scores import TopAnswers


@dataclass(frozen=True, eq=False)
class Sources:
    """What the page is made from.

    `answers` are those to every picture of `dataset`, resized as `geometry` says, else to some of `calibration`.
    `pictures`: whether the page shows them; what the models said of them it always does.
    """

    folder: Path
    manifest: Manifest
    labels: Sequence[str] | None
    files: Sequence[EncodedModel]
    climbs: Sequence[Climb]
    calibration: CalibrationSet | None
    dataset: Dataset | None
    geometry: Preprocess
    size: tuple[int, int]
    answers: Mapping[str, TopAnswers]
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
        recipes=tuple(rung for climb in sources.climbs for rung in climb.rungs),
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
        images, rows = summarize_layers(made, calibration)
        found.append(Layers(climb.last.recipe.name, made.graph.precision, climb.held is not None, images, rows))
    return tuple(found)


def _examples(sources: Sources) -> Examples | None:
    """With the pixels that the models saw."""
    dataset, calibration = sources.dataset, sources.calibration
    file = preferred({file.name: file.precision for file in sources.files})
    if file is None or file not in sources.answers:
        return None
    keras, other = sources.answers[REFERENCE], sources.answers[file]
    if dataset is not None:
        truths = [int(index) for index in dataset.classes] if dataset.labelled else None
        chosen = choose(keras, other, truths)
        paths = {image: dataset.paths[image] for image in chosen}
        seen = {i: (p.name, load_image(p, sources.size, sources.geometry).pixels) for i, p in paths.items()}
    elif calibration is not None:
        truths = None
        seen = {i: (PurePath(calibration.names[i]).name, calibration.pixels[i]) for i in choose(keras, other, None)}
    else:
        return None
    shown = {image: (name, pixels if sources.pictures else None) for image, (name, pixels) in seen.items()}
    names = class_names(sources.manifest.classes, sources.labels)
    return examples(keras, other, truths, names, shown, file=file, held_back=dataset is not None)
