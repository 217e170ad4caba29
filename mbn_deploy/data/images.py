"""Folders of images: which files count, and one image's pixels together with the hash of its content.

Calibration and evaluation both read images here, and both decode them with the runtime's own
`load_pixels`, so that what is calibrated and measured is what a device will see.
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
from mbn_deploy.runtime.system.files import read_file

CHUNK = 32  # images that are decoded at once: enough for a few threads, few enough for progress and Ctrl-C

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """`pixels` is uint8 (H, W, C); `content` the sha256 of the file; `decoded` that of the pixels."""

    pixels: Pixels
    content: str
    decoded: str


def find_images(folder: Path) -> list[Path]:
    """Every image file under `folder`, sorted by path; hidden files and folders are left out.

    Raises `InputError` if `folder` is no readable folder or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder" if not folder.exists() else f"{folder}: not a folder of images")
    try:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and _visible(p, folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not found:
        raise InputError(f"{folder}: no images in it (looked for {', '.join(sorted(SUFFIXES))}, in sub-folders too)")
    return found


def _visible(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def load_image(path: Path, size: tuple[int, int], preprocess: Preprocess, data: bytes | None = None) -> LoadedImage:
    """The image as the model sees it before normalization; `data` are its bytes if they are at hand.

    `size` is (height, width); the number of channels is that of `preprocess.mean`. Raises `InputError`.
    """
    data = read_file(path) if data is None else data
    try:
        pixels = load_pixels(data, size, preprocess, len(preprocess.mean))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return LoadedImage(pixels, sha256(data), sha256(pixels.tobytes()))


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The function's results in the order of `items`, `CHUNK` at a time in threads (decoders release the GIL)."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), CHUNK):
            yield from pool.map(function, items[start : start + CHUNK])
