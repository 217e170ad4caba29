"""What is handed to an executor: functions of the module's top, so that any other process can be told of them.

A task may be run twice, on a cluster that loses a worker: each looks at what stands first, and what it writes
appears whole or not at all. In one process one task goes on at a time, whatever threads its executor has: Keras has
one source of random numbers a process, and interpreters are not shared between threads.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.answers import Scores
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.data.dataset import Dataset
from mbn_deploy.errors import InputError, MbnError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME, Preprocess, preprocess_from_dict
from mbn_deploy.pipeline.bundle_files import REFERENCE
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.sweep.plan import IMAGENET, RANDOM, Job, Variant
from mbn_deploy.sweep.record import Record, failed, manifest_hash, standing, write_record
from mbn_deploy.verify.evaluate import Predictor, Tally, keras_predictor, tally_images
from mbn_deploy.verify.runner import FileRunner

BUG = 1
_TURN = threading.Lock()


@dataclass(frozen=True, eq=False)
class Chunk:
    """A part of a data set, on which a bundle and its Keras model are measured."""

    job: Job
    manifest: str  # sha256: of which bundle this is asked
    images: Dataset
    geometry: Preprocess
    size: tuple[int, int]
    scores: Scores


def make(job: Job) -> Record:
    """Export the job's variant, and keep a record of how that went; never raises for a variant that fails."""
    with _TURN:
        found = standing(job)
        if found is None:
            found = _made(job)
            write_record(job, found)
        return found


def judge(chunk: Chunk) -> dict[str, Tally]:
    """The tallies of a chunk, by file name and `keras`; raises `InputError` for images that cannot be read."""
    with _TURN:
        predictors = _opened(chunk.job, chunk.manifest)
        return tally_images(
            predictors, chunk.images, chunk.size, chunk.geometry, reference=REFERENCE, scores=chunk.scores
        )


def _made(job: Job) -> Record:
    from mbn_deploy.pipeline import export as pipeline

    options = dict(job.options)
    if options.get("max_drop") is None:  # else the guard evaluates by itself, and there is nothing left to do
        options["exclude"] = options.pop("evaluate", None)
        options.pop("evaluate_resize", None)
    if job.variant.file is not None and job.variant.size is not None:
        options["size"] = job.variant.size
    unmeasured = job.options.get("evaluate") is not None and job.options.get("max_drop") is None
    before = _stamp(job.folder)
    try:
        result = pipeline.export_model(model_of(job.variant), job.folder, **options, overwrite=True, report=False)
    except MbnError as error:
        # What stood there before is no bundle of this request; what the guard left beside its verdict is.
        left = manifest_hash(job.folder) if _stamp(job.folder) != before else None
        return failed(job, str(error), error.exit_code, manifest=left)
    except OSError as error:
        return failed(job, str(error), InputError.exit_code)
    except Exception as error:  # noqa: BLE001 (a bug in one variant is recorded, too, and the others go on)
        return failed(job, "".join(traceback.format_exception(error)), BUG)
    return Record(
        job.variant.name, job.fingerprint, "made" if unmeasured else "done", manifest_hash(job.folder),
        seconds=result.seconds, warnings=result.warnings,
    )  # fmt: skip


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Which writing of the bundle stands: equal bundles, written twice, differ in it."""
    path = folder / MANIFEST_NAME
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def model_of(variant: Variant) -> Any:
    """The variant's Keras model, or its file's path."""
    if variant.file is not None:
        return Path(variant.file)
    import keras

    from mbn_deploy.models.api import build

    if variant.weights == RANDOM:
        keras.utils.set_random_seed(int(sha256(variant.name.encode())[:8], 16))
    weights = {RANDOM: None, IMAGENET: IMAGENET}.get(variant.weights, variant.weights)
    size, alpha = variant.size or 224, variant.alpha or 1.0
    return build(variant.model or "", alpha=alpha, size=size, classes=variant.classes, weights=weights)


class _Opened:
    """The predictors of the bundle that was asked for last: chunks of one bundle come one after the other."""

    def __init__(self) -> None:
        self.key: tuple[str, str] | None = None
        self.predictors: dict[str, Predictor] = {}
        self.close: Callable[[], None] = lambda: None


_LAST = _Opened()


def _opened(job: Job, manifest: str) -> dict[str, Predictor]:
    key = (str(job.folder), manifest)
    if _LAST.key != key:
        _LAST.close()
        _LAST.key, stack = None, ExitStack()
        _LAST.predictors, _LAST.close = _predictors(job, stack), stack.close
        _LAST.key = key
    return _LAST.predictors


def _predictors(job: Job, stack: ExitStack) -> dict[str, Predictor]:
    bundle, model = Bundle.read(job.folder), model_of(job.variant)
    if isinstance(model, Path):
        from mbn_deploy.export.from_keras.load import load_keras

        model = load_keras(model)
    outer = preprocess_from_dict(bundle.manifest.source["preprocess"])
    predictors: dict[str, Predictor] = {REFERENCE: keras_predictor(model, outer)}
    for entry in bundle.files:
        backend = open_backend(bundle.path(entry), entry.format, where=entry.path)
        stack.callback(backend.close)
        predictors[entry.path] = FileRunner(backend, entry.preprocess, entry.layout, entry.input)
    return predictors


def geometry_of(bundle: Bundle, options: Any) -> Preprocess:
    """How images of the evaluation are resized: as the first file says, where the options say nothing else."""
    own = bundle.files[0].preprocess
    return replace(own, resize=options.get("evaluate_resize") or own.resize)
