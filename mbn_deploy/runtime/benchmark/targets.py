"""What a benchmark measures: which files, opened how, fed with which picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import ModelFile, Preprocess
from mbn_deploy.runtime.backends import BACKENDS, MODULES, choose_backend, installed
from mbn_deploy.runtime.bundle import open_bundle
from mbn_deploy.runtime.images import stored_size
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.system.files import read_file

SYNTHETIC = (640, 480)  # width and height of a small camera's picture


@dataclass(frozen=True)
class Choice:
    """Options of `Classifier.open`: which of a bundle's files, which interpreter, and what lone files do not say."""

    precision: str | None = None
    backend: str | None = None
    resize: str | None = None
    preprocess: str | None = None


@dataclass(frozen=True)
class Target:
    """A file to measure: what errors and tables call it, what is opened, and how."""

    name: str
    path: Path
    choice: Choice


@dataclass(frozen=True)
class Picture:
    """What every file is fed, as bytes of a file; `source` is its name, or says that it is made up."""

    source: str
    data: bytes
    width: int
    height: int


def targets(paths: Sequence[str | PathLike[str]], choice: Choice) -> tuple[list[Target], list[str]]:
    """Everything to measure at `paths`, and the names of files of bundles that no installed interpreter runs.

    Of a bundle these are all files that `choice` asks for; two of one name are called by their paths. Raises
    `UsageError` for a precision or backend that makes no sense, `InputError` for a bundle that cannot be read,
    `MissingExtraError` where nothing can be run.
    """
    found, left = [], []
    for path in map(Path, paths):
        if path.is_dir():
            runnable, others = _of_bundle(path, choice)
            found += runnable
            left += others
        else:
            found.append(Target(path.name, path, choice))
    names = [target.name for target in found]
    return [t if names.count(t.name) == 1 else replace(t, name=_whole_name(t)) for t in found], left


def _whole_name(target: Target) -> str:
    return str(target.path / target.name if target.path.name != target.name else target.path)


def _of_bundle(folder: Path, choice: Choice) -> tuple[list[Target], list[str]]:
    if choice.backend is not None and choice.backend not in MODULES:
        raise UnknownNameError("backend", choice.backend, MODULES)
    entries = open_bundle(folder, check_files=False).manifest.files
    if not entries:
        raise InputError(f"{folder}: the bundle has no model files")
    asked = [entry for entry in entries if choice.precision in (None, entry.precision)]
    if not asked:
        raise UnknownNameError("precision", str(choice.precision), sorted({entry.precision for entry in entries}))
    runnable = [entry for entry in asked if _runs(entry, choice.backend)]
    if not runnable:
        if choice.backend is None:
            choose_backend(asked[0].format)  # says what to install
        has = ", ".join(sorted({f"{entry.format}/{entry.precision}" for entry in entries}))
        raise UsageError(f"{folder}: nothing in it for backend {choice.backend!r} as asked; it has {has}")
    chosen = [
        Target(e.path, folder, replace(choice, precision=e.precision, backend=choose_backend(e.format, choice.backend)))
        for e in runnable
    ]
    # What another interpreter would run is left out by choice, not for want of one.
    return chosen, [e.path for e in asked if e not in runnable and choice.backend is None]


def _runs(entry: ModelFile, backend: str | None) -> bool:
    names = BACKENDS[entry.format]
    return any(installed(name) for name in names) if backend is None else backend in names


def picture_of(path: Path) -> Picture:
    """An image file; raises `InputError` where it cannot be read as one."""
    data = read_file(path)
    width, height = stored_size(path)
    load_pixels(path, (1, 1), Preprocess())  # damage is found now, under the file's name
    return Picture(str(path), data, width, height)


def synthetic_picture() -> Picture:
    """A JPEG as a small camera writes it: smooth shapes and some noise, always the same."""
    width, height = SYNTHETIC
    y, x = np.mgrid[0:height, 0:width] / 40
    rng = np.random.default_rng(0)
    waves = [np.sin(a * x + phase) + np.cos(b * y - a * x / 2) for a, b, phase in _WAVES]
    pixels = 127 + 50 * np.stack(waves, axis=-1) + rng.normal(0, 6, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return Picture("made up", buffer.getvalue(), width, height)


_WAVES = ((0.7, 1.1, 0.0), (1.3, 0.6, 1.0), (1.0, 1.0, 2.0))  # of red, green and blue
