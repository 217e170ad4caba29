"""Example images for the report: what the float model and one file of the bundle answered, disagreements first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from mbn_deploy.arrays import Pixels
from mbn_deploy.report.data import Example, Examples, Guess
from mbn_deploy.verify.scores import TopAnswers

DIFFERING, ALIKE = 12, 4  # how many images of each kind are shown at most
SIDE = 144  # pixels of a thumbnail's longer side
QUALITY = 82
# The file that is compared with float is the first of these that the bundle has: the one that differs most from float.
PREFERENCE = ("int8", "int8-mixed", "int16x8", "dynamic", "float16", "float32")


def preferred(precisions: Mapping[str, str]) -> str | None:
    """Return the name of the file to compare with float, given the precision of each; None without files."""
    return min(precisions, key=lambda name: PREFERENCE.index(precisions[name]), default=None)


def choose(reference: TopAnswers, other: TopAnswers, truths: Sequence[int] | None) -> list[int]:
    """Choose the images to show: disagreements first, then some agreements, spread evenly over the set.

    Disagreements are sorted: where the reference is right and the other is wrong, then where the reference is surest.

    Args:
        reference: answers of the float model.
        other: answers of the file to the same images.
        truths: the right class of each image; None without labels.
    """
    first, second, sure = reference.classes[:, 0], other.classes[:, 0], reference.probabilities[:, 0]
    truth = np.full(len(first), -1) if truths is None else np.asarray(truths)
    differing = [int(i) for i in np.flatnonzero(first != second)]
    differing.sort(key=lambda i: (first[i] != truth[i], -sure[i], i))
    alike = np.flatnonzero(first == second)
    spread = np.unique(np.linspace(0, len(alike) - 1, min(ALIKE, len(alike))).round().astype(int))
    return differing[:DIFFERING] + [int(i) for i in alike[spread]]


def examples(
    reference: TopAnswers,
    other: TopAnswers,
    truths: Sequence[int] | None,
    labels: Sequence[str],
    shown: Mapping[int, tuple[str, Pixels | None]],
    *,
    file: str,
    held_back: bool,
) -> Examples:
    """Describe the images that `choose` chose.

    Args:
        reference: answers of the float model.
        other: answers of `file` to the same images.
        truths: the right class of each image; None without labels.
        labels: a name for each class in the answers.
        shown: for each chosen image its name, and its pixels (H, W, C) if it is to be shown itself.
        file: name of the file.
        held_back: whether the images are others than those of the calibration.
    """

    def guesses(answers: TopAnswers, image: int) -> tuple[Guess, ...]:
        pairs = zip(answers.classes[image], answers.probabilities[image], strict=True)
        return tuple(Guess(labels[int(index)], float(probability)) for index, probability in pairs)

    differ = reference.classes[:, 0] != other.classes[:, 0]
    described = []
    for image, (name, pixels) in shown.items():
        picture, size = (None, (0, 0)) if pixels is None else thumbnail(pixels)
        described.append(
            Example(
                name=name,
                truth=None if truths is None else labels[int(truths[image])],
                reference=guesses(reference, image),
                other=guesses(other, image),
                same=not differ[image],
                picture=picture,
                size=size,
            )
        )
    return Examples(
        file=file,
        compared=len(differ),
        differing=int(differ.sum()),
        shown=tuple(described),
        held_back=held_back,
    )


def class_names(classes: int, labels: Sequence[str] | None) -> list[str]:
    """Return a name for each class that an answer can have: its label or its index.

    A model with one class has a second answer, "not" the first.
    """
    names = [str(index) for index in range(classes)] if labels is None else list(labels)
    return [*names, f"not {names[0]}"] if classes == 1 else names


def thumbnail(pixels: Pixels) -> tuple[bytes, tuple[int, int]]:
    """Return a small JPEG of uint8 pixels (H, W, C), and its (width, height)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    return jpeg.getvalue(), image.size
