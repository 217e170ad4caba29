"""Example images for the report: what the float model and one file of the bundle answered, disagreements first."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.report.data import Example, Examples, Guess
from mbn_deploy.verify.measures.measure import Columns, Measure

DIFFERING, ALIKE = 12, 4  # how many images of each kind are shown at most
SIDE = 144  # pixels of a thumbnail's longer side
QUALITY = 82
# The file that is compared with float is the first of these that the bundle has: the one that differs most from float.
PREFERENCE = ("int8", "int8-mixed", "int16x8", "dynamic", "float16", "float32")


def preferred(precisions: Mapping[str, str]) -> str | None:
    """Return the name of the file to compare with float, given the precision of each; None without files."""
    return min(precisions, key=lambda name: PREFERENCE.index(precisions[name]), default=None)


def choose(measure: Measure, reference: Columns, other: Columns, truth: Array | None) -> list[int]:
    """Choose the images to show: those that differ most first, then some that are alike, spread evenly over the set.

    Of images that differ alike, those come first on which the reference is right, then those of which it is surest.

    Args:
        measure: says how much answers differ.
        reference: answers of the float model.
        other: answers of the file to the same images.
        truth: what is right for each image; None without labels.
    """
    apart, sure = measure.differences(other, reference), measure.certainty(reference)
    right = np.zeros(len(apart), bool) if truth is None else measure.right(reference, truth)
    differing = [int(i) for i in np.flatnonzero(apart > 0)]
    differing.sort(key=lambda i: (-apart[i], not right[i], -sure[i], i))
    shown = differing[:DIFFERING]
    alike = np.array([i for i in range(len(apart)) if apart[i] == 0], int)
    spread = np.unique(np.linspace(0, len(alike) - 1, min(ALIKE, len(alike))).round().astype(int))
    return shown + [int(i) for i in alike[spread]]


def examples(
    measure: Measure,
    reference: Columns,
    other: Columns,
    truth: Array | None,
    shown: Mapping[int, tuple[str, Pixels | None]],
    *,
    file: str,
    held_back: bool,
) -> Examples:
    """Describe the images that `choose` chose.

    Args:
        measure: describes the answers.
        reference: answers of the float model.
        other: answers of `file` to the same images.
        truth: what is right for each image; None without labels.
        shown: for each chosen image its name, and its pixels (H, W, C) if it is to be shown itself.
        file: name of the file.
        held_back: whether the images are others than those of the calibration.
    """

    def guesses(answers: Columns, image: int) -> tuple[Guess, ...]:
        return tuple(Guess(name, value) for name, value in measure.described(answers, image))

    differ = measure.differences(other, reference) > 0
    described = []
    for image, (name, pixels) in shown.items():
        picture, size = (None, (0, 0)) if pixels is None else thumbnail(pixels)
        described.append(
            Example(
                name=name,
                truth=None if truth is None else measure.described_truth(truth, image),
                reference=guesses(reference, image),
                other=guesses(other, image),
                same=not differ[image] if measure.decides else None,
                picture=picture,
                size=size,
            )
        )
    return Examples(
        file=file,
        compared=len(differ),
        differing=int(differ.sum()) if measure.decides else None,
        shown=tuple(described),
        held_back=held_back,
    )


def thumbnail(pixels: Pixels) -> tuple[bytes, tuple[int, int]]:
    """Return a small JPEG of uint8 pixels (H, W, C), and its (width, height)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    return jpeg.getvalue(), image.size
