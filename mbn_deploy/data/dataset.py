"""Labelled images, from class folders or a CSV table, and what is right for each by the meaning of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.data.class_folders import ClassNames, folder_classes, folder_names, same_pictures
from mbn_deploy.data.images import LoadedImage, find_images, in_parallel, load_image
from mbn_deploy.data.tables import read_table, table_images
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.text import shorten

CACHE_BYTES = 2**30  # decoded images are kept up to this size; a larger set is decoded anew each time
LOAD = "load evaluation images"


@dataclass(eq=False)
class Dataset:
    """Image files with what is right for each of them.

    Attributes:
        name: name of the folder or table.
        paths: the image files.
        truth: classes, int64 (N,), also of binary models (0 or 1) and of embeddings; labels, bool (N, labels); values,
            float32 (N, values); None if nothing is known.
        names: of the classes, labels or values.
    """

    name: str
    paths: tuple[Path, ...] = field(repr=False)
    truth: Array | None = field(default=None, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    _decoded: dict[object, list[LoadedImage]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labelled(self) -> bool:
        """Whether it is known what is right."""
        return self.truth is not None

    def chosen(self, images: Sequence[int]) -> Dataset:
        """Return the data set of these images, by their numbers."""
        numbers = list(images)
        truth = None if self.truth is None else self.truth[numbers]
        return Dataset(self.name, tuple(self.paths[i] for i in numbers), truth, self.names)

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
    path: str | Path,
    outputs: int,
    *,
    answers: Answers | None = None,
    labels: Sequence[str] | None = None,
    synsets: Sequence[str] | None = None,
    unlabelled: bool = False,
) -> Dataset:
    """Load labelled images: a folder with class folders, or a CSV table of image files (see `tables`).

    What sub-folders say depends on the meaning of the answers.

    - Classes: the name of a sub-folder is looked up in `synsets`, then in `labels`, else it is read as a class index
      from 0. If the model has one class more than there are synsets, and its first label is "background", synset i is
      class i + 1.
    - Binary: a sub-folder is called by one of the two labels, or 0 or 1. With a lone label, which is the positive one,
      any other sub-folder is negative.
    - Labels: the images of a sub-folder have its label; one that links lead to from several has the labels of all.
    - Embedding: sub-folders of any name are classes.
    - Values stand in tables only.

    Args:
        path: the folder or the table.
        outputs: number of the model's outputs.
        answers: what they mean; classes if not said.
        labels: line i names class i.
        synsets: line i names class i.
        unlabelled: also accept a folder of images of which nothing is known.

    Raises:
        InputError: names sub-folders, columns or lines that do not fit the model, or images outside of sub-folders.
    """
    root, answers = Path(path), answers or Answers()
    if root.is_file():
        table = read_table(root, answers, outputs, labels)
        return Dataset(root.name, table.paths, table.truth, table.names)
    paths = find_images(root)
    names = answers.names(labels, outputs)
    loose = [p.name for p in paths if p.parent == root]
    any_folder = answers.meaning == "embedding" and (loose or len(set(folder_names(root, paths))) == 1)
    if unlabelled and (len(loose) == len(paths) or answers.meaning == "values" or any_folder):
        return Dataset(root.resolve().name, tuple(paths), None, names)
    if answers.meaning == "values":
        raise InputError(f"{root}: the right values stand in a CSV table with a column of image files, not in folders")
    if loose:
        raise InputError(
            f"{root}: every image must lie in a sub-folder named by its class (label, synset or index); "
            f"these do not: {shorten(loose)}"
        )
    return _from_folders(root, paths, names, ClassNames(answers, outputs, labels, synsets), answers)


def _from_folders(
    root: Path, paths: Sequence[Path], names: tuple[str, ...], classes: ClassNames, answers: Answers
) -> Dataset:
    name = root.resolve().name
    if answers.meaning == "embedding":
        folders = folder_names(root, paths)
        own = tuple(sorted(set(folders)))
        return Dataset(name, tuple(paths), np.array([own.index(each) for each in folders], np.int64), own)
    of_paths = folder_classes(root, paths, classes)
    if answers.meaning != "labels":
        return Dataset(name, tuple(paths), of_paths, names)
    pictures = list(same_pictures(paths).values())
    truth = np.zeros((len(pictures), len(names)), bool)
    for picture, numbers in enumerate(pictures):
        truth[picture, of_paths[numbers]] = True
    return Dataset(name, tuple(paths[numbers[0]] for numbers in pictures), truth, names)


def all_images(folder: str | Path) -> Dataset:
    """Load all images below `folder`, or of a table, as if nothing were known of them. Raises `InputError`."""
    root = Path(folder)
    return Dataset(root.resolve().name, table_images(root) if root.is_file() else tuple(find_images(root)))
