"""The export: a Keras model goes in, and a verified bundle comes out.

    read the model ─► load images ─► search recipes ─► encode ─► try the files ─► evaluate ─► bundle ─► report ─► write

Each step is a function that takes values and returns one. Nothing is written before all of them have succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mbn_deploy.arguments import check_path
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.bundle.write import check_target, write_bundle
from mbn_deploy.errors import VerificationError
from mbn_deploy.manifest import REPORT_NAME
from mbn_deploy.pipeline.bundle_files import ExportedModels, bundle_files
from mbn_deploy.pipeline.encoding import encode_files
from mbn_deploy.pipeline.evaluation import REFERENCE, evaluate_files, keras_scores
from mbn_deploy.pipeline.images import ExportImages, check_inputs, load_images
from mbn_deploy.pipeline.manifest_record import evaluation_metrics
from mbn_deploy.pipeline.option_fields import keywords, takes_options
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import SearchResult, search_recipes
from mbn_deploy.pipeline.rejection import rejection
from mbn_deploy.pipeline.report_data import report_html
from mbn_deploy.pipeline.source import open_source
from mbn_deploy.pipeline.steps import StepTimer
from mbn_deploy.pipeline.training_pixels import check_training_pixels
from mbn_deploy.pipeline.trial import try_files
from mbn_deploy.verify.chance import chance_level_warning
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.golden_inputs import golden_pixels
from mbn_deploy.verify.guard import sentence

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class ExportResult:
    """The bundle that an export wrote, and what is known of the export but not part of the bundle.

    Attributes:
        bundle: the bundle, as `Bundle.read` opens it.
        seconds: how long each step took, by the step's name.
        warnings: sentences about the outputs, the preprocessing, the calibration images, the accuracy limit and the
            labels.
        searches: the recipes that were tried for each quantized precision.
    """

    bundle: Bundle
    seconds: dict[str, float]
    warnings: tuple[str, ...]
    searches: tuple[SearchResult, ...]


@takes_options(ExportOptions)
def export_model(model: keras.Model | str | Path, output: str | Path, options: ExportOptions) -> ExportResult:
    """Export a Keras model to a bundle: a folder of TFLite and ONNX files, verified, with labels and a manifest.

    The folder is written completely or not at all.

    Args:
        model: a Keras model, or the path of a .keras or .h5 file.
        output: the folder that becomes the bundle.
        options: {options}

    Returns:
        The bundle that was written, the seconds of each step, warnings, and the recipes that were tried.

    Raises:
        UsageError: names an option that makes no sense, or one that is missing.
        InputError: names the model, image, label or folder that cannot be used.
        VerificationError: an interpreter refuses a file, or no recipe keeps the accuracy within `max_drop`. In the
            latter case the bundle has the files of all other precisions, if there are any.
    """
    folder, timer = check_path("output", output), StepTimer(options.progress)
    check_target(folder, overwrite=options.overwrite)
    check_inputs(keywords(options))
    with timer.step("read the model"):
        source = open_source(model, options)
    with timer.step("load images"):
        images = load_images(source, options)
    with timer.step("classify with Keras"):
        keras_answers = keras_scores(source, images, options.progress)
        training = check_training_pixels(source, images, keras_answers, options.progress)
    searches = search_recipes(source, images, keras_answers, options, timer)
    accepted = {search.precision: search.accepted.files for search in searches if search.accepted is not None}
    rejected = [search for search in searches if search.accepted is None]
    files = encode_files(source, accepted, options, timer)
    if rejected and not files:
        raise VerificationError(rejection(rejected, files, options))
    with timer.step("try the files"):
        pixels = golden_pixels(images.calibration_pixels, source.size, source.channels, options.seed)
        runs, samples = try_files(files, pixels)
    models = ExportedModels(source=source, searches=searches, files=files, runs=runs, samples=samples, pixels=pixels)
    with timer.step("evaluate the files"):
        evaluation = evaluate_files(files, runs, source, images, keras_answers, progress=options.progress)
    with timer.step("write the bundle"):
        metrics = {}
        if evaluation is not None:
            metrics = evaluation_metrics(evaluation, REFERENCE, images.evaluation_preprocess) | training.metrics
        contents, manifest = bundle_files(models, metrics, options)
    unrecorded = tuple(record.warning for record in samples.values() if record.warning)
    warnings = (
        *source.warnings,
        *training.warnings,
        *export_warnings(images, searches, evaluation, options.max_drop),
        *unrecorded,
    )
    if options.report:
        with timer.step("write the report"):
            contents[REPORT_NAME] = report_html(
                folder, manifest, models, images, evaluation, warnings=warnings, options=options
            )
    with timer.step("write the bundle"):
        write_bundle(folder, contents, overwrite=options.overwrite)
    if rejected:
        raise VerificationError(f"{rejection(rejected, files, options)}. {folder} has the other files")
    bundle = Bundle(folder=folder, manifest=manifest, labels=source.description.labels)
    return ExportResult(bundle=bundle, seconds=timer.seconds, warnings=warnings, searches=searches)


def export_warnings(
    images: ExportImages,
    searches: Sequence[SearchResult],
    evaluation: Evaluation | None,
    max_drop: float | None,
) -> tuple[str, ...]:
    """List what the user should know of the images, of undecided accuracy limits, and of a model at chance level."""
    warnings = list(() if images.calibration is None else images.calibration.warnings)
    for search in searches:
        warnings += search.last_tried.quantization.warnings
        if max_drop is not None and search.results and not search.results[-1].verdict.decided:
            warnings.append(sentence(search.results[-1].verdict, max_drop))
    if evaluation is not None and REFERENCE in evaluation.accuracy:
        measure = evaluation.measure
        chance = chance_level_warning(evaluation.accuracy[REFERENCE], measure.answers.meaning, len(measure.names))
        warnings += filter(None, [chance])
    return tuple(dict.fromkeys(warnings))
