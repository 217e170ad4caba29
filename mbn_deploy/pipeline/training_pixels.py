"""Whether the chosen preprocessing is that of the training: what the Keras model answers to other pixels.

Files are compared with Keras on the same pixels, so a wrong choice changes neither agreement nor drop. It shows in two
other figures: those of Keras on the pixels of the training's own loader, and those of other presets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.data.dataset import Dataset
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.images import ExportImages
from mbn_deploy.pipeline.source import Source
from mbn_deploy.pipeline.training_loader import LOADERS, load_as_in_training
from mbn_deploy.progress import Progress
from mbn_deploy.runtime.images import is_turned
from mbn_deploy.verify.evaluate import BATCH, conclude, keras_input
from mbn_deploy.verify.preset_check import TRIED_UNLABELLED, better_preset, sample
from mbn_deploy.verify.record import loader_record

OURS, THEIRS = "keras", "loader"
STEP = "classify the loader's pixels"


@dataclass(frozen=True)
class TrainingCheck:
    """The metrics of the Keras model on its own loader's pixels, if that can be named, and warnings."""

    metrics: dict[str, Any]
    warnings: tuple[str, ...]


def check_training_pixels(
    source: Source, images: ExportImages, ours: Floats | None, progress: Progress
) -> TrainingCheck:
    """Let the Keras model classify pixels that its training may have had instead of ours.

    Args:
        source: the model.
        images: those of the export.
        ours: the model's scores for our own pixels of the evaluation images; None where nothing is evaluated.
        progress: is told how many images are done.
    """
    dataset, loader = images.evaluation, LOADERS.get(images.evaluation_preprocess.resize)
    warnings = [_preset_warning(source, images)]
    if dataset is None or ours is None or loader is None:
        return _checked({}, warnings)
    warnings.append(_turned_warning(dataset, loader))
    try:
        theirs = np.concatenate(list(_scores(source, images, dataset, progress)))
    except InputError as error:
        return _checked({}, [*warnings, f"Keras was not measured on its own loader's pixels: {error}"])
    columns = {name: [images.measure.columns(s, ours, 0)] for name, s in ((OURS, ours), (THEIRS, theirs))}
    evaluation = conclude([columns], dataset, images.measure, OURS)
    return _checked({"reference_loader": {"loader": loader, **loader_record(evaluation, THEIRS)}}, warnings)


def _checked(metrics: dict[str, Any], warnings: list[str | None]) -> TrainingCheck:
    return TrainingCheck(metrics=metrics, warnings=tuple(warning for warning in warnings if warning is not None))


def _scores(source: Source, images: ExportImages, dataset: Dataset, progress: Progress) -> Iterator[Floats]:
    pictures = load_as_in_training(dataset.paths, source.size, images.evaluation_preprocess, source.channels)
    done = 0
    while batch := list(islice(pictures, BATCH)):
        yield source.keras_scores(np.stack(batch))
        done += len(batch)
        progress(STEP, done, len(dataset))


def _turned_warning(dataset: Dataset, loader: str) -> str | None:
    turned = sum(map(is_turned, dataset.paths))
    if not turned:
        return None
    return (
        f"{turned} of {len(dataset)} images are photographs with an EXIF orientation: here they are turned upright, as "
        f"people see them; {loader} does not turn them, in training neither"
    )


def _preset_warning(source: Source, images: ExportImages) -> str | None:
    """Return a sentence that names a preset of `--preprocess` which suits the model clearly better, or None."""
    if images.evaluation is not None:
        dataset = images.evaluation.chosen([int(i) for i in sample(len(images.evaluation))])
        pixels = np.stack(list(dataset.images(source.size, images.evaluation_preprocess)))
        truth = dataset.truth
    elif images.calibration is not None:
        chosen = sample(len(images.calibration.pixels), TRIED_UNLABELLED)
        pixels, truth = images.calibration.pixels[chosen], None
    else:
        return None

    def predict(preprocess: Preprocess, some: Pixels) -> Floats:
        batches = (some[start : start + BATCH] for start in range(0, len(some), BATCH))
        return np.concatenate([source.keras(keras_input(batch, preprocess)) for batch in batches])

    found = better_preset(predict, source.keras_preprocess, pixels, truth, images.measure)
    return None if found is None else str(found)
