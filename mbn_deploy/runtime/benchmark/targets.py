"""Choose what a benchmark measures: which files, opened with which options, and the image that they are fed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.backends import choose_backend
from mbn_deploy.runtime.bundle import open_bundle
from mbn_deploy.runtime.file_choice import runnable_files
from mbn_deploy.runtime.images import stored_size
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.system.files import read_file

SYNTHETIC_SIZE = (640, 480)  # (width, height) of a small camera's image
SYNTHETIC = "synthetic"  # the `source` of a synthetic image


@dataclass(frozen=True)
class TargetOptions:
    """Options of `Classifier.open` for every file: plain values, which a child process takes."""

    precision: str | None = None
    backend: str | None = None
    resize: str | None = None
    preprocess: str | None = None
    isolate: bool | None = None


@dataclass(frozen=True)
class Target:
    """A file to measure: its name in errors and tables, what is opened, and with which options."""

    name: str
    path: Path
    options: TargetOptions


@dataclass(frozen=True)
class BenchmarkImage:
    """The image that every file is fed, encoded as a file; `source` is its path, or `SYNTHETIC`."""

    source: str
    data: bytes
    width: int
    height: int


def find_targets(paths: Sequence[str | PathLike[str]], options: TargetOptions) -> tuple[list[Target], list[str]]:
    """Return all files to measure at `paths`, and the names of files in bundles that no installed interpreter runs.

    In a bundle these are all files that fit the options. Files of the same name are called by their paths.

    Raises:
        UsageError: a precision or backend makes no sense.
        InputError: a bundle cannot be read.
        MissingExtraError: no interpreter for any of a bundle's files is installed.
    """
    targets: list[Target] = []
    left_out: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            runnable, not_runnable = _bundle_targets(path, options)
            targets += runnable
            left_out += not_runnable
        else:
            targets.append(Target(path.name, path, options))
    names = [target.name for target in targets]
    return [t if names.count(t.name) == 1 else replace(t, name=_path_name(t)) for t in targets], left_out


def _path_name(target: Target) -> str:
    return str(target.path / target.name if target.path.name != target.name else target.path)


def _bundle_targets(folder: Path, options: TargetOptions) -> tuple[list[Target], list[str]]:
    manifest = open_bundle(folder, check_files=False).manifest
    runnable, not_runnable = runnable_files(manifest.files, options.precision, options.backend, str(folder))
    targets = []
    for entry in runnable:
        backend = choose_backend(entry.format, options.backend)
        targets.append(Target(entry.path, folder, replace(options, precision=entry.precision, backend=backend)))
    return targets, [entry.path for entry in not_runnable]


def read_benchmark_image(path: Path) -> BenchmarkImage:
    """Read an image file; raises `InputError` if it is not an image or is damaged."""
    data = read_file(path)
    width, height = stored_size(path)
    load_pixels(path, (1, 1), Preprocess())  # decodes it, so that damage is reported now, with the file's name
    return BenchmarkImage(str(path), data, width, height)


def synthetic_image() -> BenchmarkImage:
    """Return a JPEG like a small camera's: smooth shapes and some noise, always the same."""
    width, height = SYNTHETIC_SIZE
    y, x = np.mgrid[0:height, 0:width] / 40
    rng = np.random.default_rng(0)
    waves = [np.sin(a * x + phase) + np.cos(b * y - a * x / 2) for a, b, phase in _WAVES]
    pixels = 127 + 50 * np.stack(waves, axis=-1) + rng.normal(0, 6, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return BenchmarkImage(SYNTHETIC, buffer.getvalue(), width, height)


_WAVES = ((0.7, 1.1, 0.0), (1.3, 0.6, 1.0), (1.0, 1.0, 2.0))  # for red, green and blue
