"""Labelled images: a folder with one sub-folder a class, and which class each sub-folder is."""

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
CACHE_BYTES = 2**30  # decoded images are kept up to this size; a larger set is decoded again each time
LOAD = "load evaluation images"


@dataclass(eq=False)
class Dataset:
    """Image files with their classes. `name` is the folder's; `classes` is int64 (N,), all -1 without labels."""

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
        """uint8 (H, W, C) of every image at `size` (height, width), in order; raises `InputError`."""
        return (image.pixels for image in self._load(size, preprocess, progress))

    def hashes(self, size: tuple[int, int], preprocess: Preprocess, progress: Progress = silent) -> frozenset[str]:
        """sha256 of every file and of every image's pixels at `size`: what a calibration set must not contain."""
        return frozenset(h for image in self._load(size, preprocess, progress) for h in (image.content, image.decoded))

    def _load(self, size: tuple[int, int], preprocess: Preprocess, progress: Progress) -> Iterator[LoadedImage]:
        # Mean and standard deviation act later: files that differ in them share their pixels.
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
    """The images below `folder`, whose sub-folders are named by class.

    With `unlabelled` it may also hold nothing but images, whose classes nobody knows.

    A name is looked up among `synsets`, then `labels` (line i = class i of both), and is else read
    as a class index from 0. A model of one class more than `synsets`, whose first label is
    "background", has every synset one class further up.

    Raises `InputError` that names sub-folders which are no class (with near names), or images that
    lie in none.
    """
    root = Path(folder)
    paths = find_images(root)
    loose = [p.name for p in paths if p.parent == root]
    if unlabelled and len(loose) == len(paths):
        return _without_labels(root, paths)
    if loose:
        raise InputError(
            f"{root}: images must lie in one sub-folder a class, named by label, synset or index; "
            f"these lie in none: {shorten(loose)}"
        )
    names = _names(class_count, labels, synsets)
    folders = sorted({p.relative_to(root).parts[0] for p in paths})
    indices = {name: _index(name, names, class_count) for name in folders}
    unknown = [name for name, index in indices.items() if index is None]
    if unknown:
        raise InputError(f"{root}: {_unknown(unknown, len(folders), names, class_count)}")
    classes = np.array([indices[p.relative_to(root).parts[0]] for p in paths], np.int64)
    return Dataset(root.resolve().name, tuple(paths), classes)


def all_images(folder: str | Path) -> Dataset:
    """All images below `folder`, whatever its sub-folders are called, without classes; raises `InputError`."""
    return _without_labels(Path(folder), find_images(Path(folder)))


def _without_labels(root: Path, paths: Sequence[Path]) -> Dataset:
    return Dataset(root.resolve().name, tuple(paths), np.full(len(paths), -1, np.int64))


def _names(class_count: int, labels: Sequence[str] | None, synsets: Sequence[str] | None) -> dict[str, int | None]:
    """Class by name; `None` for a label that several classes carry."""
    if labels is not None and len(labels) != class_count:
        raise InputError(f"{len(labels)} labels for {class_count} classes: line i must be the name of class i")
    names: dict[str, int | None] = {}
    for index, label in enumerate(labels or ()):
        names[label] = None if label in names else index
    background = labels is not None and labels[0] == BACKGROUND
    first = 1 if background and synsets is not None and len(synsets) == class_count - 1 else 0
    if synsets is not None and len(synsets) + first != class_count:
        raise InputError(f"{len(synsets)} synsets for {class_count} classes: line i must be the synset of class i")
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
    hint = "" if names else "; without --labels or --synsets only class indices are understood"
    return f"{len(unknown)} of {folders} sub-folders are none of the {class_count} classes: {shown}{hint}"
