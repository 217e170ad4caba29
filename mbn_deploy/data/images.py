"""Finds and loads the images of a folder.

Calibration and evaluation both load images here, with the runtime's own `load_pixels`, so that the quantizer and the
evaluation see the pixels that a device will see.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime.images import SUFFIXES
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.system.files import missing, read_file

CHUNK = 32  # images decoded at once: enough for a few threads, few enough for frequent progress and a prompt Ctrl-C

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image: uint8 pixels (H, W, C), the sha256 of its file (`content`) and that of its pixels (`decoded`)."""

    pixels: Pixels
    content: str
    decoded: str


def find_images(folder: Path) -> list[Path]:
    """List all image files below `folder`, sorted by path. Hidden files and folders are skipped.

    Raises:
        InputError: `folder` is not a readable folder, or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder of images") if folder.exists() else missing(folder, "folder")
    try:
        paths = sorted(_images_below(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not paths:
        raise InputError(f"{folder}: no images in it (looked for {', '.join(sorted(SUFFIXES))}, in sub-folders too)")
    return paths


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder. Links to folders are followed, but not back to a folder above them."""

    def search(here: str, above: frozenset[str]) -> Iterator[Path]:
        with os.scandir(here) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        for entry in visible:
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in above:
                    yield from search(entry.path, above | {real})
            elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
                yield Path(entry.path)

    root = folder.resolve()
    return search(str(folder), frozenset({str(root), *map(str, root.parents)}))


def load_image(path: Path, size: tuple[int, int], preprocess: Preprocess, data: bytes | None = None) -> LoadedImage:
    """Load an image as the model sees it before normalization.

    Args:
        path: the image file.
        size: (height, width) of the result, which has as many channels as `preprocess.mean`.
        preprocess: how the image is resized.
        data: the file's content, if it was already read.

    Raises:
        InputError: names the file that cannot be read or decoded.
    """
    data = read_file(path) if data is None else data
    try:
        pixels = load_pixels(data, size, preprocess, len(preprocess.mean))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return LoadedImage(pixels, sha256(data), sha256(pixels.tobytes()))


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the function's results in the order of `items`, `CHUNK` at a time in threads (decoders release the GIL)."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), CHUNK):
            yield from pool.map(function, items[start : start + CHUNK])
