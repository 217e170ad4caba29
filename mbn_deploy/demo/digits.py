"""Handwritten digits that ship with the package: 8 x 8 pixels of 17 grey levels (see README.md beside this file)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

DIGITS_FILE = "digits.npz"
SIZE = 32  # input height and width of the models, the smallest that MobileNet allows
CLASSES = tuple("0123456789")
INK = 16  # the largest value in the data

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images: grey levels 0 to 16, (N, 8, 8), and the digit on each, (N,)."""

    levels: Levels
    digits: Levels

    def __len__(self) -> int:
        return len(self.digits)

    def pictures(self) -> Iterator[Image.Image]:
        """Yield each image as a grey 32 x 32 picture."""
        return (picture(levels) for levels in self.levels)

    def write(self, folder: Path, *, by_class: bool) -> list[Path]:
        """Write PNG files, `<digit>/<number>.png` or `<number>.png`, and return their paths in order."""
        paths = []
        for number, (image, digit) in enumerate(zip(self.pictures(), self.digits, strict=True)):
            parent = folder / str(digit) if by_class else folder
            parent.mkdir(parents=True, exist_ok=True)
            path = parent / f"{number:04d}.png"
            image.save(path)
            paths.append(path)
        return paths


def picture(levels: Levels) -> Image.Image:
    """Turn (8, 8) values in 0..16 into a 32 x 32 grey picture, bilinear, as in training and in the demo."""
    grey = np.rint(levels.astype(np.float32) * (255 / INK)).astype(np.uint8)
    return Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def shipped() -> tuple[Digits, Digits]:
    """Return the digits that ship with the package: (calibration images of the training split, the held-back split)."""
    with resources.as_file(resources.files(__package__) / DIGITS_FILE) as path, np.load(path) as data:
        return (
            Digits(data["calibration"], data["calibration_digits"]),
            Digits(data["held_back"], data["held_back_digits"]),
        )
