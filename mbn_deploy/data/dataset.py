"""Labelled images: a folder with one sub-folder per class, named by label, synset or class index."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Pixels
from mbn_deploy.data.images import LoadedImage, find_images, in_parallel, load_image
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.text import shorten

Classes = npt.NDArray[np.int64]

BACKGROUND = "background"
CACHE_BYTES = 2**30  # decoded images are kept up to this size; a larger set is decoded anew each time
LOAD = "load evaluation images"


@dataclass(eq=False)
class Dataset:
    """Image files with their classes, int64 (N,), all -1 if they are unknown. `name` is that of the folder."""

    name: str
    paths: tuple[Path, ...] = field(repr=False)
    classes: Classes = field(repr=False)
    _decoded: dict[object, list[LoadedImage]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labelled(self) -> bool:
        """Whether the classes are known."""
        return bool((self.classes >= 0).all())

    def images(self, size: tuple[int, int], preprocess: Preprocess, progress: Progress = silent) -> Iterator[Pixels]:
        """Yield the uint8 pixels (H, W, C) of every image at `size` (height, width), in order.

        Raises:
            InputError: names an image that cannot be read.
        """
        return (image.pixels for image in self._load(size, preprocess, progress))

    def hashes(self, size: tuple[int, int], preprocess: Preprocess, progress: Progress = silent) -> frozenset[str]:
        """Return the sha256 of every file and of its pixels at `size`: a calibration set must contain none of them."""
        return frozenset(h for image in self._load(size, preprocess, progress) for h in (image.content, image.decoded))

    def _load(self, size: tuple[int, int], preprocess: Preprocess, progress: Progress) -> Iterator[LoadedImage]:
        # Pixels do not depend on mean and standard deviation, which act later.
        p = preprocess
        key = (size, p.resize, p.crop_fraction, p.filter, p.channels, len(p.mean))
        if key in self._decoded:
            yield from self._decoded[key]
            return
        kept: list[LoadedImage] = []
        keep = len(self) * size[0] * size[1] * len(p.mean) <= CACHE_BYTES
        for done, image in enumerate(in_parallel(lambda p: load_image(p, size, preprocess), self.paths), 1):
            progress(LOAD, done, len(self))
            if keep:
                kept.append(image)
            yield image
        if keep:
            self._decoded = {key: kept}


def load_dataset(
    folder: str | Path,
    class_count: int,
    *,
    labels: Sequence[str] | None = None,
    synsets: Sequence[str] | None = None,
    unlabelled: bool = False,
) -> Dataset:
    """Load the images below `folder`, whose sub-folders are named by class.

    The name of a sub-folder is looked up in `synsets`, then in `labels`, else it is read as a class index from 0. If
    the model has one class more than there are synsets, and its first label is "background", synset i is class i + 1.

    Args:
        folder: holds one sub-folder per class.
        class_count: number of the model's classes.
        labels: line i names class i.
        synsets: line i names class i.
        unlabelled: also accept a folder of images without sub-folders, whose classes are unknown.

    Raises:
        InputError: names sub-folders that are not a class (with similar names), or images outside of sub-folders.
    """
    root = Path(folder)
    paths = find_images(root)
    loose = [p.name for p in paths if p.parent == root]
    if unlabelled and len(loose) == len(paths):
        return _without_labels(root, paths)
    if loose:
        raise InputError(
            f"{root}: every image must lie in a sub-folder named by its class (label, synset or index); "
            f"these do not: {shorten(loose)}"
        )
    names = _names(class_count, labels, synsets)
    folders = sorted({p.relative_to(root).parts[0] for p in paths})
    indices = {name: _index(name, names, class_count) for name in folders}
    unknown = [name for name, index in indices.items() if index is None]
    if unknown:
        hint = _labels_hint(root, len(folders), class_count) if not names else ""
        raise InputError(f"{root}: {_unknown(unknown, len(folders), names, class_count)}{hint}")
    classes = np.array([indices[p.relative_to(root).parts[0]] for p in paths], np.int64)
    return Dataset(root.resolve().name, tuple(paths), classes)


def all_images(folder: str | Path) -> Dataset:
    """Load all images below `folder` without classes, whatever its sub-folders are called. Raises `InputError`."""
    return _without_labels(Path(folder), find_images(Path(folder)))


def _without_labels(root: Path, paths: Sequence[Path]) -> Dataset:
    return Dataset(root.resolve().name, tuple(paths), np.full(len(paths), -1, np.int64))


def _names(class_count: int, labels: Sequence[str] | None, synsets: Sequence[str] | None) -> dict[str, int | None]:
    """Map names to class indices; a label that several classes share is mapped to None."""
    if labels is not None and len(labels) != class_count:
        raise InputError(f"{len(labels)} labels for {class_count} classes: there must be one for each class, in order")
    names: dict[str, int | None] = {}
    for index, label in enumerate(labels or ()):
        names[label] = None if label in names else index
    background = labels is not None and labels[0] == BACKGROUND
    first = 1 if background and synsets is not None and len(synsets) == class_count - 1 else 0
    if synsets is not None and len(synsets) + first != class_count:
        raise InputError(
            f"{len(synsets)} synsets for {class_count} classes: there must be one for each class, in order"
        )
    return names | {name: index for index, name in enumerate(synsets or (), first)}


def _index(name: str, names: dict[str, int | None], class_count: int) -> int | None:
    if name in names:
        return names[name]
    if name.isascii() and name.isdigit() and int(name) < class_count:
        return int(name)
    return None


def _unknown(unknown: list[str], folders: int, names: dict[str, int | None], class_count: int) -> str:
    known = names or {"0": 0, str(class_count - 1): class_count - 1}
    ambiguous = [name for name in unknown if name in names]
    if ambiguous:
        return f"several classes are called {shorten(map(repr, ambiguous))}; name these sub-folders by class index"
    near = {name: difflib.get_close_matches(name, known, n=2, cutoff=0.6) for name in unknown}
    shown = shorten(repr(n) + (f" (near: {', '.join(near[n])})" if near[n] else "") for n in unknown)
    return f"{len(unknown)} of {folders} sub-folders are not named like any of the {class_count} classes: {shown}"


def _labels_hint(root: Path, folders: int, class_count: int) -> str:
    """Say how sub-folders become classes if nothing names the classes."""
    if folders == class_count:
        return f"; to take the sub-folders as classes in alphabetical order, as Keras does, give --labels {root}"
    return "; without --labels or --synsets the names must be class indices"
