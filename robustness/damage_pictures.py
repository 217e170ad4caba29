"""The held-back pictures by which it is decided whether a damage matters: digits of the demo, or photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy.manifest import Preprocess

COUNT = 200  # pictures of a set: a damage that changes two of them is kept


@dataclass(frozen=True)
class Pictures:
    """The pictures that are classified, paths or pixels, the label of each, and where a second set of them begins."""

    sources: tuple[Any, ...]
    truth: tuple[str, ...]
    second: int

    def share(self, old: list[str], new: list[str]) -> float:
        """Return the share of pictures whose answers differ: the first set's or the second's, if that is larger."""
        other = np.array(old) != np.array(new)
        return float(max(part.mean() for part in (other[: self.second], other[self.second :]) if part.size))

    def right(self, answers: list[str]) -> float:
        """Return the share of right answers in the first set."""
        pairs = list(zip(answers, self.truth, strict=True))[: self.second]
        return sum(answer == truth for answer, truth in pairs) / len(pairs)


@dataclass(frozen=True)
class Folder:
    """A folder of photographs with a sub-folder a class, called by its synset, and two files with a line a class."""

    photographs: Path
    labels: Path
    synsets: Path


@cache
def load(folder: Folder | None) -> Pictures:
    """Return photographs, at most `COUNT`; without a folder digits."""
    return _digits() if folder is None else _photographs(folder)


def _digits() -> Pictures:
    """Return held-back digits, stretched to 40 x 56 pixels, and the same in colours as the second set."""
    from PIL import Image

    from mbn_deploy.demo.digits import shipped

    _, held_back = shipped()
    rng = np.random.default_rng(0)
    chosen = np.linspace(0, len(held_back) - 1, COUNT).astype(int)
    grey = list(held_back.pictures())
    plain = [np.asarray(grey[i].resize((56, 40), Image.Resampling.BILINEAR).convert("RGB")) for i in chosen]
    tinted = [np.rint(picture * rng.uniform(0.2, 1, 3)).astype(np.uint8) for picture in plain]
    return Pictures((*plain, *tinted), tuple(str(digit) for digit in held_back.digits[chosen]) * 2, COUNT)


def _photographs(folder: Folder) -> Pictures:
    lines = [path.read_text("utf-8").rstrip("\n").split("\n") for path in (folder.synsets, folder.labels)]
    names = dict(zip(*lines, strict=True))
    paths = sorted(folder.photographs.glob("*/*.*"))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(COUNT, len(paths))).astype(int)]
    return Pictures(tuple(chosen), tuple(names[path.parent.name] for path in chosen), len(chosen))


def pixels(
    folder: Folder | None, preprocess: Preprocess, size: tuple[int, int], channels: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the pictures as a model's input sees them before they are normalized: uint8 (N, H, W, C)."""
    # How pixels are normalized does not matter to resizing, so that one set of pixels does for all ways of it.
    return _resized(folder, replace(preprocess, mean=(0.0,) * channels, std=(1.0,) * channels), size, channels)


@cache
def _resized(
    folder: Folder | None, preprocess: Preprocess, size: tuple[int, int], channels: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from mbn_deploy.runtime.preprocess import load_pixels

    return np.stack([load_pixels(source, size, preprocess, channels) for source in load(folder).sources])
