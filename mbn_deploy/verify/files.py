"""Accuracy of what stands on the disk: every file of a bundle, or one lone file, through the runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mbn_deploy.data.dataset import Dataset, load_dataset
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import ModelFile, Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime import Classifier, ModelInfo, open_bundle
from mbn_deploy.runtime.backends import BACKENDS, MODULES, choose_backend
from mbn_deploy.verify.evaluate import Evaluation, evaluate

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
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Top-1 and top-5 of the files at `path` on the labelled images below `data`.

    In a bundle, `precision` and `backend` choose among the files, and a float32 file, if it is one of
    several, is what the others are compared with. `limit` takes that many images, chosen by a hash of
    `seed` and name; the other options are those of `Classifier.open` and `load_dataset`.

    Raises what these two raise.
    """
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(
                Classifier.open(
                    path,
                    precision=wanted,
                    backend=runs,
                    threads=threads,
                    labels=labels,
                    resize=resize,
                    preprocess=preprocess,
                )
            )
            for name, wanted, runs in _choices(Path(path), precision, backend)
        }
        first = next(iter(opened.values()))
        info = first.info
        dataset = load_dataset(data, info.classes, labels=first.labels, synsets=synsets)
        pixels = _same_pixels(opened)
        reference = next((n for n, c in opened.items() if c.info.precision == REFERENCE), None)
        return evaluate(
            {name: classifier.predict for name, classifier in opened.items()},
            dataset if limit is None else chosen(dataset, limit, seed),
            info.size,
            pixels,
            reference=reference if len(opened) > 1 else None,
            # The classifier has made probabilities of logits.
            scores="sigmoid" if info.scores == "sigmoid" else "softmax",
            progress=progress,
        )


def chosen(dataset: Dataset, limit: int, seed: int = 0) -> Dataset:
    """`limit` images of `dataset` in its order; a smaller limit chooses a part of what a larger one does."""
    if limit < 1:
        raise UsageError(f"the limit must be at least 1 image, not {limit}")
    keys = [hashlib.sha256(f"{seed}/{p.parent.name}/{p.name}".encode()).digest() for p in dataset.paths]
    kept = sorted(sorted(range(len(dataset)), key=keys.__getitem__)[:limit])
    return Dataset(dataset.name, tuple(dataset.paths[i] for i in kept), dataset.classes[kept])


def _choices(path: Path, precision: str | None, backend: str | None) -> list[tuple[str, str | None, str | None]]:
    """(name, precision, backend) of every file to open."""
    if not path.is_dir():
        return [(path.name, precision, backend)]
    files = open_bundle(path, check_files=False).manifest.files
    if not files:
        raise InputError(f"{path}: the bundle has no model files")
    if backend is not None and backend not in MODULES:
        raise UnknownNameError("backend", backend, MODULES)
    if precision is not None and precision not in {entry.precision for entry in files}:
        raise UnknownNameError("precision", precision, sorted({entry.precision for entry in files}))
    asked = [entry for entry in files if _is_asked(entry, precision, backend)]
    if not asked:
        raise UsageError(f"{path}: no file in it is of precision {precision} and runs on backend {backend}")
    return [(entry.path, entry.precision, choose_backend(entry.format, backend)) for entry in asked]


def _is_asked(entry: ModelFile, precision: str | None, backend: str | None) -> bool:
    return precision in (None, entry.precision) and (backend is None or backend in BACKENDS[entry.format])


def _same_pixels(opened: dict[str, Classifier]) -> Preprocess:
    """How images become the pixels that every file is shown; an edited manifest may have them differ."""
    wanted = {(c.info.size, c.info.classes, _pixels(c.info)) for c in opened.values()}
    if len(wanted) > 1:
        raise InputError(f"the files {', '.join(opened)} differ in size, classes or resizing; evaluate them one by one")
    return _pixels(next(iter(opened.values())).info)


def _pixels(info: ModelInfo) -> Preprocess:
    """The file's preprocessing up to normalization, which the file's classifier does by itself."""
    return replace(info.preprocess, mean=(0.0,) * info.channels, std=(1.0,) * info.channels)
