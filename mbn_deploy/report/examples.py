"""Example pictures: what the float model and a file of the bundle said of each, disagreements first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.manifest import Scores
from mbn_deploy.report.data import Example, Examples, Guess
from mbn_deploy.runtime.ranking import softmax
from mbn_deploy.verify.evaluate import Predictor, answers, top_classes

DIFFERING, ALIKE = 12, 4  # pictures shown at most
CALIBRATION = 16  # pictures that are looked at where nothing is evaluated
GUESSES = 3
SIDE = 144  # pixels of a thumbnail's longer side
QUALITY = 82
# What is compared with float, the first that there is: what differs most from it.
PREFERENCE = ("int8", "int8-mixed", "int16x8", "dynamic", "float16", "float32")


@dataclass(eq=False)
class Answers:
    """A predictor that remembers its best classes, image by image: `classes` and `shares`, each (n, `GUESSES`)."""

    predict: Predictor
    scores: Scores
    lone: bool = False  # one score: class 1 is that it is not class 0
    _classes: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _shares: list[Floats] = field(default_factory=list)

    def __call__(self, pixels: Pixels) -> Floats:
        """What `predict` says."""
        answer = self.predict(pixels)
        self.lone = answer.shape[1] == 1
        shares = answers(answer, self.scores)
        top = top_classes(shares, min(GUESSES, shares.shape[1]))
        shares = softmax(shares) if self.scores == "logits" else shares
        self._classes.append(top)
        self._shares.append(np.take_along_axis(shares, top, 1))
        return answer

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Best first."""
        return np.concatenate(self._classes)

    @property
    def shares(self) -> Floats:
        """Their probabilities."""
        return np.concatenate(self._shares)


@dataclass(eq=False)
class Watch:
    """Two of the predictors of an evaluation, the float model and one file, watched while they work."""

    reference: str
    scores: Scores
    file: str | None = None
    answers: dict[str, Answers] = field(default_factory=dict)

    def __call__(self, predictors: Mapping[str, Predictor], precisions: Mapping[str, str]) -> dict[str, Predictor]:
        """The same predictors, two of them watched; `precisions` are those of the files by name."""
        self.file = preferred(precisions)
        watched = [name for name in (self.reference, self.file) if name is not None]
        self.answers = {name: Answers(predictors[name], self.scores) for name in watched}
        return {**predictors, **self.answers}

    def look(self, pixels: Pixels | None) -> None:
        """Where nothing is evaluated: the first of the calibration's `pixels`, if there are any."""
        if pixels is not None:
            for predict in self.answers.values():
                predict(pixels[:CALIBRATION])


def preferred(precisions: Mapping[str, str]) -> str | None:
    """The file to show beside float: by name, out of their precisions."""
    return min(precisions, key=lambda name: PREFERENCE.index(precisions[name]), default=None)


def choose(watch: Watch, truths: Sequence[int] | None) -> list[int]:
    """Which images are shown: disagreements first, then some on which both agree, spread evenly.

    Of disagreements, those come first where float was right and the file wrong, then where float was surest.
    `truths` are the classes by image, None where nobody knows them.
    """
    mine, theirs = watch.answers[watch.reference], watch.answers[str(watch.file)]
    first, other, sure = mine.classes[:, 0], theirs.classes[:, 0], mine.shares[:, 0]
    truth = np.full(len(first), -1) if truths is None else np.asarray(truths)
    differing = [int(i) for i in np.flatnonzero(first != other)]
    differing.sort(key=lambda i: (first[i] != truth[i], -sure[i], i))
    alike = np.flatnonzero(first == other)
    spread = np.unique(np.linspace(0, len(alike) - 1, min(ALIKE, len(alike))).round().astype(int))
    return differing[:DIFFERING] + [int(i) for i in alike[spread]]


def examples(
    watch: Watch,
    truths: Sequence[int] | None,
    labels: Sequence[str] | None,
    shown: Mapping[int, tuple[str, Pixels | None]],
    *,
    held_back: bool,
) -> Examples:
    """The images `shown` (from `choose`): name, and pixels (H, W, C) where the picture itself is to be seen.

    `held_back`: they are no calibration pictures.
    """
    mine, theirs = watch.answers[watch.reference], watch.answers[str(watch.file)]
    differ = mine.classes[:, 0] != theirs.classes[:, 0]

    def label(index: int) -> str:
        if mine.lone and index > 0:
            return f"not {label(0)}"
        return str(index) if labels is None else labels[index]

    def guesses(watched: Answers, image: int) -> tuple[Guess, ...]:
        pairs = zip(watched.classes[image], watched.shares[image], strict=True)
        return tuple(Guess(label(int(index)), float(share)) for index, share in pairs)

    found = []
    for image, (name, pixels) in shown.items():
        truth = None if truths is None else label(int(truths[image]))
        picture, size = (None, (0, 0)) if pixels is None else thumbnail(pixels)
        both = guesses(mine, image), guesses(theirs, image)
        found.append(Example(name, truth, *both, not differ[image], picture, size))
    return Examples(str(watch.file), len(differ), int(differ.sum()), tuple(found), held_back)


def thumbnail(pixels: Pixels) -> tuple[bytes, tuple[int, int]]:
    """A small JPEG of uint8 (H, W, C) pixels, and its (width, height)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    made = io.BytesIO()
    image.save(made, "JPEG", quality=QUALITY, optimize=True)
    return made.getvalue(), image.size
