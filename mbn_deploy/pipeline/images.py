"""The images of an export: those to calibrate on and those to evaluate on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.arrays import Pixels
from mbn_deploy.data.dataset import Dataset, all_images, load_dataset
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.label_names import read_lines, read_synsets
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import Source
from mbn_deploy.quantize.calibration import CalibrationSet, load_calibration
from mbn_deploy.runtime.label_files import read_labels
from mbn_deploy.runtime.system.files import missing
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.measures.measure import Measure


@dataclass(frozen=True, eq=False)
class ExportImages:
    """The images of an export.

    Attributes:
        calibration: images that ranges are taken from; None if no file is quantized.
        evaluation: images that accuracy is measured on; None if it is not measured.
        evaluation_preprocess: how the images of `evaluation` are resized.
        measure: what is measured of the answers to the images of `evaluation`.
    """

    calibration: CalibrationSet | None
    evaluation: Dataset | None
    evaluation_preprocess: Preprocess
    measure: Measure

    @property
    def calibration_pixels(self) -> Pixels | None:
        """The pixels of the calibration images, uint8 (N, H, W, C)."""
        return None if self.calibration is None else self.calibration.pixels


def load_images(source: Source, options: ExportOptions) -> ExportImages:
    """Load the calibration images and list those of the evaluation.

    Images of the evaluation, and of `options.exclude`, are left out of the calibration.

    Raises:
        InputError: names a folder or an image that cannot be used.
    """
    own, progress = source.description.preprocess, options.progress
    resized = replace(own, resize=options.evaluate_resize or own.resize)
    answers = source.description.answers
    names = answers.names(source.description.labels, source.classes)
    evaluation, exclude = None, frozenset[str]()
    if options.evaluate is not None:
        evaluation = load_dataset(
            options.evaluate,
            source.classes,
            answers=answers,
            labels=source.description.labels,
            synsets=read_synsets(options.synsets),
            unlabelled=True,
        )
        names = evaluation.names
        exclude = evaluation.hashes(source.size, resized, progress)
    calibration = None
    if options.quantized and options.calibrate is not None:
        if options.exclude is not None:
            exclude |= all_images(options.exclude).hashes(source.size, resized, progress)
        calibration = load_calibration(
            options.calibrate,
            source.size,
            own,
            count=options.calibration_count,
            seed=options.seed,
            exclude=exclude,
            progress=progress,
        )
    return ExportImages(
        calibration=calibration,
        evaluation=evaluation,
        evaluation_preprocess=resized,
        measure=measure_for(answers, names, 0 if evaluation is None else len(evaluation), options.threshold),
    )


def check_inputs(options: Mapping[str, Any]) -> None:
    """Check that the folders among the options exist and text files can be read, before anything takes time.

    Raises:
        InputError: names the folder or file.
    """
    for folder in (options.get("calibrate"), options.get("evaluate"), options.get("exclude")):
        if folder is not None and not Path(folder).exists():
            raise missing(Path(folder), "file or folder")
    if options.get("labels") is not None:
        read_labels(options["labels"])
    if options.get("synsets") is not None:
        read_lines(options["synsets"])
