"""Compare exported files with the Keras model that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from mbn_deploy.arrays import Floats
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.pipeline.images import ExportImages
from mbn_deploy.pipeline.source import Source
from mbn_deploy.progress import Progress
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.verify.evaluate import Evaluation, Predictor, evaluate, predict_all
from mbn_deploy.verify.interpreter_process import RunResult
from mbn_deploy.verify.measures.measure import Columns
from mbn_deploy.verify.runner import FileRunner

REFERENCE = "keras"  # the name of the Keras model among the files
COMPARED = 16  # calibration images that answers are compared on where nothing is evaluated


def keras_scores(source: Source, images: ExportImages, progress: Progress) -> Floats | None:
    """Return the scores of the Keras model for each image of the evaluation, (images, classes)."""
    if images.evaluation is None:
        return None
    return predict_all(
        source.keras_scores,
        images.evaluation,
        source.size,
        images.evaluation_preprocess,
        step="classify with Keras",
        progress=progress,
    )


def evaluate_files(
    files: Sequence[EncodedModel],
    runs: Mapping[str, RunResult],
    source: Source,
    images: ExportImages,
    keras: Floats | None,
    *,
    progress: Progress,
) -> Evaluation | None:
    """Measure files on the images of the evaluation, if there are any.

    Args:
        files: the files.
        runs: how the interpreter describes each of them.
        source: the model that they came from.
        images: those of the export.
        keras: `keras_scores`.
        progress: is told how many images are done.
    """
    if images.evaluation is None or keras is None:
        return None
    with _opened(files, runs) as runners:
        return evaluate(
            runners,
            images.evaluation,
            source.size,
            images.evaluation_preprocess,
            images.measure,
            known={REFERENCE: keras},
            reference=REFERENCE,
            progress=progress,
        )


def answers_to_calibration(
    file: EncodedModel, runs: Mapping[str, RunResult], source: Source, images: ExportImages
) -> dict[str, Columns]:
    """Return what is kept of the answers of Keras and of a file to the first calibration images, by name.

    It is empty without any.
    """
    if images.calibration is None:
        return {}
    pixels = images.calibration.pixels[:COMPARED]
    with _opened([file], runs) as runners:
        predictors: dict[str, Predictor] = {
            REFERENCE: source.keras_scores,
            **runners,
        }
        scores = {name: predict(pixels) for name, predict in predictors.items()}
    return {name: images.measure.columns(rows, scores[REFERENCE], 0) for name, rows in scores.items()}


@contextmanager
def _opened(files: Sequence[EncodedModel], runs: Mapping[str, RunResult]) -> Iterator[dict[str, FileRunner]]:
    with ExitStack() as stack:
        runners = {}
        for file in files:
            backend = open_backend(file.data, file.format, where=file.name)
            stack.callback(backend.close)
            info = file.described(runs[file.name].input)
            runners[file.name] = FileRunner(backend, file.preprocess, file.layout, info)
        yield runners
