"""Tasks of a sweep, as functions of a module, so that they can be handed to any other process.

A task may be run twice, on a cluster that loses a worker. Each first looks at what is already there, and writes its
results completely or not at all. One task runs at a time in a process, whatever threads its executor has: Keras has
one source of random numbers per process, and threads cannot share an interpreter.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.data.dataset import Dataset
from mbn_deploy.errors import InputError, MbnError
from mbn_deploy.export.from_keras.cut import cut_model
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME, Preprocess, preprocess_from_dict
from mbn_deploy.pipeline.evaluation import REFERENCE
from mbn_deploy.pipeline.option_fields import keywords
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.sweep.plan import IMAGENET, RANDOM, Job, Variant
from mbn_deploy.sweep.record import Record, failed, finished_record, manifest_hash, write_record
from mbn_deploy.verify.evaluate import Predictor, keras_predictor, tally_images
from mbn_deploy.verify.measures.measure import Columns, Measure
from mbn_deploy.verify.runner import FileRunner

BUG = 1
_TURN = threading.Lock()


@dataclass(frozen=True, eq=False)
class Chunk:
    """A part of a data set, on which a bundle and its Keras model are evaluated.

    Attributes:
        job: the job of the bundle.
        manifest: sha256 of the bundle's manifest, which tells whether a bundle that is open is still the right one.
        images: the part of the data set.
        preprocess: how images are resized.
        size: (height, width) of the input.
        measure: what is measured of the answers.
        first: number of the part's first image in the whole.
    """

    job: Job
    manifest: str
    images: Dataset
    preprocess: Preprocess
    size: tuple[int, int]
    measure: Measure
    first: int


def export_variant(job: Job) -> Record:
    """Export the job's variant and return its record, written if the bundle was; a variant that fails raises nothing.

    The sweep writes the record of a failure. A library may turn the Ctrl-C that ends a task into an error of its own,
    and an interrupted variant has not failed.
    """
    with _TURN:
        record = finished_record(job)
        if record is None:
            record = _export(job)
            if record.status != "failed":
                write_record(job, record)
        return record


def tally_chunk(chunk: Chunk) -> dict[str, list[Columns]]:
    """Run a bundle's files and its Keras model on a chunk of images; return the tallies by file name and `keras`.

    Raises:
        InputError: an image cannot be read.
    """
    with _TURN:
        return tally_images(
            _predictors_of(chunk.job, chunk.manifest),
            chunk.images,
            chunk.size,
            chunk.preprocess,
            chunk.measure,
            reference=REFERENCE,
            first=chunk.first,
        )


def _export(job: Job) -> Record:
    from mbn_deploy.pipeline.export import export_model

    options = replace(job.options, overwrite=True, report=False)
    evaluated_later = options.evaluate is not None and options.max_drop is None  # else the guard evaluates by itself
    if evaluated_later:
        options = replace(options, exclude=options.evaluate, evaluate=None)
    if job.variant.file is not None and job.variant.size is not None:
        options = replace(options, size=job.variant.size)
    before = _written_at(job.folder)
    try:
        result = export_model(model_of(job.variant), job.folder, **keywords(options))
    except MbnError as error:
        # A bundle of an earlier request does not count; one that the guard wrote beside its verdict does.
        left = manifest_hash(job.folder) if _written_at(job.folder) != before else None
        return failed(job, str(error), error.exit_code, manifest=left)
    except OSError as error:
        return failed(job, str(error), InputError.exit_code)
    except Exception as error:  # noqa: BLE001 (a bug in one variant is recorded, too, and the others go on)
        return failed(job, "".join(traceback.format_exception(error)), BUG)
    return Record(
        name=job.variant.name,
        fingerprint=job.fingerprint,
        status="made" if evaluated_later else "done",
        manifest=manifest_hash(job.folder),
        seconds=result.seconds,
        warnings=result.warnings,
    )


def _written_at(folder: Path) -> tuple[int, int] | None:
    """Return what identifies one writing of a bundle: equal bundles that are written twice differ in it."""
    path = folder / MANIFEST_NAME
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def model_of(variant: Variant) -> Any:
    """Build the variant's Keras model, or return the path of its file."""
    if variant.file is not None:
        return Path(variant.file)
    from mbn_deploy.models.api import build
    from mbn_deploy.models.keras_backend import import_keras

    if variant.weights == RANDOM:
        import_keras("to build models").utils.set_random_seed(int(sha256(variant.name.encode())[:8], 16))
    weights = {RANDOM: None, IMAGENET: IMAGENET}.get(variant.weights, variant.weights)
    size, alpha = variant.size or 224, variant.alpha or 1.0
    return build(variant.model or "", alpha=alpha, size=size, classes=variant.classes, weights=weights)


class _LastBundle:
    """The predictors of the bundle that was evaluated last: chunks of one bundle come one after the other."""

    def __init__(self) -> None:
        self.key: tuple[str, str] | None = None
        self.predictors: dict[str, Predictor] = {}
        self.close: Callable[[], None] = lambda: None


_LAST = _LastBundle()


def _predictors_of(job: Job, manifest: str) -> dict[str, Predictor]:
    key = (str(job.folder), manifest)
    if _LAST.key != key:
        _LAST.close()
        _LAST.key, stack = None, ExitStack()
        _LAST.predictors, _LAST.close = _open_predictors(job, stack), stack.close
        _LAST.key = key
    return _LAST.predictors


def _open_predictors(job: Job, stack: ExitStack) -> dict[str, Predictor]:
    bundle, model = Bundle.read(job.folder), model_of(job.variant)
    if isinstance(model, Path):
        from mbn_deploy.export.from_keras.load import load_keras

        model = load_keras(model)
    model = cut_model(model, job.options.output_layer).model
    outer = preprocess_from_dict(bundle.manifest.source["preprocess"])
    predictors: dict[str, Predictor] = {REFERENCE: keras_predictor(model, outer)}
    for entry in bundle.files:
        backend = open_backend(bundle.path(entry), entry.format, where=entry.path)
        stack.callback(backend.close)
        predictors[entry.path] = FileRunner(backend, entry.preprocess, entry.layout, entry.input)
    return predictors


def evaluation_preprocess(bundle: Bundle, options: ExportOptions) -> Preprocess:
    """Return how images of the evaluation are resized: as the first file says, unless the options say otherwise."""
    own = bundle.files[0].preprocess
    return replace(own, resize=options.evaluate_resize or own.resize)
