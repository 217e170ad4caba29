"""From the results of an export to the values of its report; the latencies are measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from mbn_deploy.arrays import Pixels
from mbn_deploy.data.images import load_image
from mbn_deploy.diagnose.layer_summary import summarize_layers
from mbn_deploy.manifest import Manifest
from mbn_deploy.pipeline.bundle_files import ExportedModels
from mbn_deploy.pipeline.evaluation import REFERENCE, answers_to_calibration
from mbn_deploy.pipeline.images import ExportImages
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import SearchResult
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.report.data import Examples, Layers, Report, Scatter
from mbn_deploy.report.examples import choose, examples, preferred
from mbn_deploy.report.page import page
from mbn_deploy.runtime.system.device import this_machine
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.latency import latencies
from mbn_deploy.verify.measures.measure import Columns

POINTS, SCATTERS = 600, 6  # images and values that are plotted at most


def report_html(
    folder: Path,
    manifest: Manifest,
    models: ExportedModels,
    images: ExportImages,
    evaluation: Evaluation | None,
    *,
    warnings: tuple[str, ...],
    options: ExportOptions,
) -> bytes:
    """Return the report of a bundle, a page of HTML.

    Args:
        folder: where the bundle will be.
        manifest: its manifest.
        models: its files.
        images: the images of the export.
        evaluation: the accuracy of the files, if it was measured.
        warnings: about the export.
        options: the options of the export.
    """
    report = Report(
        folder=folder.resolve().name,
        manifest=manifest,
        machine=str(this_machine()),
        latencies=latencies({file.name: (file.data, file.format) for file in models.files}),
        recipes=tuple(result for search in models.searches for result in search.results),
        max_drop=options.max_drop,
        layers=_layers(models.searches, images.calibration),
        examples=_examples(models, images, evaluation, pictures=options.report_images),
        warnings=warnings,
        scatters=_scatters(models, images, evaluation),
    )
    return page(report).encode()


def _layers(searches: Sequence[SearchResult], calibration: CalibrationSet | None) -> tuple[Layers, ...]:
    """Return the error of each layer, for the recipe that was tried last in each search."""
    if calibration is None:
        return ()
    described = []
    for search in searches:
        quantization = search.last_tried.quantization
        images, rows = summarize_layers(quantization, calibration)
        described.append(
            Layers(
                recipe=search.last_tried.recipe.name,
                precision=quantization.graph.precision,
                written=search.accepted is not None,
                images=images,
                rows=rows,
            )
        )
    return tuple(described)


def _scatters(models: ExportedModels, images: ExportImages, evaluation: Evaluation | None) -> tuple[Scatter, ...]:
    """Return what a file says of each value beside what is right, or else what Keras says."""
    name = preferred({file.name: file.precision for file in models.files})
    if evaluation is None or name is None or evaluation.measure.answers.meaning != "values":
        return ()
    truth = None if images.evaluation is None else images.evaluation.truth
    x, beside = (evaluation.answers[REFERENCE]["values"], "Keras") if truth is None else (truth, "right value")
    y = evaluation.answers[name]["values"]
    shown = slice(None, None, -(-len(y) // POINTS))
    return tuple(
        Scatter(
            name=value,
            file=name,
            beside=beside,
            x=tuple(map(float, x[shown, at])),
            y=tuple(map(float, y[shown, at])),
        )
        for at, value in enumerate(evaluation.measure.names[:SCATTERS])
    )


def _examples(
    models: ExportedModels, images: ExportImages, evaluation: Evaluation | None, *, pictures: bool
) -> Examples | None:
    """Choose example images of the evaluation, or else of the calibration; None if there are neither."""
    name = preferred({file.name: file.precision for file in models.files})
    file = next((file for file in models.files if file.name == name), None)
    if file is None:
        return None
    if evaluation is not None:
        answers: Mapping[str, Columns] = evaluation.answers
    else:
        answers = answers_to_calibration(file, models.runs, models.source, images)
    if not answers:
        return None
    dataset = images.evaluation
    truth = None if dataset is None else dataset.truth
    measure = images.measure
    chosen = choose(measure, answers[REFERENCE], answers[file.name], truth)
    shown = {
        image: (name, pixels if pictures else None)
        for image, (name, pixels) in _pixels_of(chosen, images, models.source.size).items()
    }
    return examples(
        measure,
        answers[REFERENCE],
        answers[file.name],
        truth,
        shown,
        file=file.name,
        held_back=dataset is not None,
    )


def _pixels_of(chosen: Sequence[int], images: ExportImages, size: tuple[int, int]) -> dict[int, tuple[str, Pixels]]:
    """Load the name and the pixels, as the models saw them, of images by their number."""
    if images.evaluation is not None:
        paths = {image: images.evaluation.paths[image] for image in chosen}
        return {i: (p.name, load_image(p, size, images.evaluation_preprocess).pixels) for i, p in paths.items()}
    calibration = images.calibration
    if calibration is None:
        return {}
    return {image: (PurePath(calibration.names[image]).name, calibration.pixels[image]) for image in chosen}
