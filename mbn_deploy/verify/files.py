"""Evaluates files on the disk through the runtime: all files of a bundle, or a single model file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mbn_deploy.answers import Answers
from mbn_deploy.arguments import check_path
from mbn_deploy.data.dataset import Dataset, load_dataset
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import ModelFile, Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime import Classifier, ModelInfo, open_bundle
from mbn_deploy.runtime.backends import BACKENDS, choose_backend
from mbn_deploy.runtime.backends.modules import MODULES
from mbn_deploy.verify.evaluate import Evaluation, evaluate
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.measures.measure import THRESHOLD

REFERENCE = "float32"


def evaluate_files(
    path: str | Path,
    data: str | Path,
    *,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    labels: str | Path | None = None,
    synsets: Sequence[str] | None = None,
    resize: str | None = None,
    preprocess: str | None = None,
    scores: str | None = None,
    isolate: bool | None = None,
    limit: int | None = None,
    seed: int = 0,
    threshold: float = THRESHOLD,
    progress: Progress = silent,
) -> Evaluation:
    """Measure the accuracy of the files at `path` on labelled images, by the meaning of their answers.

    If several files are evaluated and one is float32, the others are compared with it.

    Args:
        path: a bundle or a model file.
        data: a folder with one sub-folder per class or a CSV table, see `load_dataset`; without labels, files are only
            compared with each other.
        precision: evaluate only the bundle's files of this precision.
        backend: evaluate only the files that this interpreter runs.
        threads: see `Classifier.open`, as for labels, resize and preprocess.
        labels: names of the classes, for a file that does not hold them.
        synsets: names that the sub-folders have for the classes, see `load_dataset`.
        resize: how images are resized.
        preprocess: how pixels are normalized.
        scores: what the outputs mean, for a file that does not say it.
        isolate: see `Classifier.open`.
        limit: evaluate this many images, chosen by a hash of `seed` and the image's name.
        seed: seed of that choice.
        threshold: the probability from which on a label is given, and above which a binary model says yes.
        progress: is told of every step.

    Raises:
        UsageError: no file of the bundle has this precision and runs on this backend, or `limit` is below 1.
        InputError: the bundle, a file or an image cannot be read, or the files take different inputs.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"--threshold takes a probability between 0 and 1, not {threshold}")
    with ExitStack() as stack:
        classifiers = {
            name: stack.enter_context(
                Classifier.open(
                    path,
                    precision=wanted,
                    backend=runs,
                    threads=threads,
                    labels=labels,
                    resize=resize,
                    preprocess=preprocess,
                    scores=scores,
                    isolate=isolate,
                )
            )
            for name, wanted, runs in _choices(check_path("path", path), precision, backend)
        }
        first = next(iter(classifiers.values()))
        info = first.info
        pixels = _common_preprocess(classifiers)
        reference = next((n for n, c in classifiers.items() if c.info.precision == REFERENCE), None)
        reference = reference if len(classifiers) > 1 else None
        answers = _of_probabilities(info.answers)
        dataset = load_dataset(
            data,
            info.classes,
            answers=answers,
            labels=first.labels,
            synsets=synsets,
            unlabelled=reference is not None,
        )
        dataset = dataset if limit is None else choose_images(dataset, limit, seed)
        return evaluate(
            {name: classifier.predict for name, classifier in classifiers.items()},
            dataset,
            info.size,
            pixels,
            measure_for(answers, dataset.names, len(dataset), threshold),
            reference=reference,
            progress=progress,
        )


def _of_probabilities(answers: Answers) -> Answers:
    """Return what a classifier's `predict` returns: it turns logits into probabilities."""
    if answers.scores != "logits":
        return answers
    return Answers(answers.meaning, "softmax" if answers.meaning == "classes" else "sigmoid")


def choose_images(dataset: Dataset, limit: int, seed: int = 0) -> Dataset:
    """Choose `limit` images, kept in their order. A smaller limit chooses a subset of a larger one's images."""
    if limit < 1:
        raise UsageError(f"the limit must be at least 1 image, not {limit}")
    keys = [sha256(f"{seed}/{p.parent.name}/{p.name}".encode()) for p in dataset.paths]
    kept = sorted(sorted(range(len(dataset)), key=keys.__getitem__)[:limit])
    return dataset.chosen(kept)


def _choices(path: Path, precision: str | None, backend: str | None) -> list[tuple[str, str | None, str | None]]:
    """List (name, precision, backend) of the files to evaluate."""
    if not path.is_dir():
        return [(path.name, precision, backend)]
    files = open_bundle(path, check_files=False).manifest.files
    if not files:
        raise InputError(f"{path}: the bundle has no model files")
    if backend is not None and backend not in MODULES:
        raise UnknownNameError("backend", backend, MODULES)
    if precision is not None and precision not in {entry.precision for entry in files}:
        raise UnknownNameError("precision", precision, sorted({entry.precision for entry in files}))
    requested = [entry for entry in files if _is_requested(entry, precision, backend)]
    if not requested:
        raise UsageError(f"{path}: no file in it is of precision {precision} and runs on backend {backend}")
    return [(entry.path, entry.precision, choose_backend(entry.format, backend)) for entry in requested]


def _is_requested(entry: ModelFile, precision: str | None, backend: str | None) -> bool:
    return precision in (None, entry.precision) and (backend is None or backend in BACKENDS[entry.format])


def _common_preprocess(classifiers: dict[str, Classifier]) -> Preprocess:
    """Return how images become the pixels that all files take. Files of an edited manifest may disagree."""
    inputs = {(c.info.size, c.info.classes, _without_normalization(c.info)) for c in classifiers.values()}
    if len(inputs) > 1:
        names = ", ".join(classifiers)
        raise InputError(f"the files {names} differ in size, classes or resizing; evaluate them one by one")
    return _without_normalization(next(iter(classifiers.values())).info)


def _without_normalization(info: ModelInfo) -> Preprocess:
    """Return the file's preprocessing up to normalization, which its classifier does."""
    return replace(info.preprocess, mean=(0.0,) * info.channels, std=(1.0,) * info.channels)
