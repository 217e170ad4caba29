"""Load and check the calibration set (representative dataset): the images from which int8 ranges are taken.

With a wrong calibration set a file works but predicts badly. So everything that can be seen from the images is checked
here, before anything is converted.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Pixels
from mbn_deploy.data.images import LoadedImage, find_images, in_parallel, load_image
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.calibration_checks import check_images
from mbn_deploy.runtime.preprocess import to_channel_order
from mbn_deploy.runtime.system.files import missing, read_file
from mbn_deploy.text import shorten

MIN_IMAGES = 8  # fewer tell nothing about a range
FEW_IMAGES = 100  # with fewer, a range can be far off
# Float data that span less than half of the pixel range were probably scaled in another way.
MIN_SPAN = 128.0
TOLERANCE = 1.0  # in pixel levels, for the resampling and rounding of float data


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Images as the model sees them before normalization.

    `pixels` is uint8 (N, H, W, C) in the channel order of the preprocessing that it was loaded with. `sha256` is a
    hash of the contents of the files (or arrays), in order. `warnings` name what is suspicious about the images but not
    certainly wrong.
    """

    pixels: Pixels = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    sha256: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


def load_calibration(
    path: str | Path,
    size: tuple[int, int],
    preprocess: Preprocess,
    *,
    count: int = 200,
    seed: int = 0,
    exclude: frozenset[str] = frozenset(),
    progress: Progress = silent,
) -> CalibrationSet:
    """Load `count` images, chosen by `seed`, of a folder with its sub-folders or of an .npz file.

    The images with the lowest hashes of seed and name are chosen. So the choice does not depend on a random number
    generator, and a smaller `count` chooses a subset.

    Args:
        path: the folder, or an .npz with one array (N, height, width, channels): uint8 RGB pixels, or floats that are
            normalized as the model expects them.
        size: (height, width) of the model's input.
        preprocess: how pictures become the model's input.
        count: how many images to use.
        seed: chooses the images.
        exclude: hashes of file contents or of decoded pixels that must not be used, as those of the evaluation set.
        progress: is told of every image.

    Raises:
        UsageError: `count` is below 8.
        InputError: unreadable files, images of one colour, fewer than 8 images, values that contradict the model's
            preprocessing, or images most of which are excluded.
    """
    if count < MIN_IMAGES:
        raise UsageError(f"calibration needs at least {MIN_IMAGES} images, not {count}; 100 to 500 are usual")
    source = Path(path)
    if source.suffix.lower() == ".npz":
        candidates: _Candidates = _ArrayCandidates(source, size, preprocess)
    else:
        candidates = _FileCandidates(source, size, preprocess)
    images, left_out = _choose(candidates, count, seed, exclude, progress)
    return _checked(source, images, left_out, count)


class _Candidates(Protocol):
    """Named images to choose from, each of which is loaded on request."""

    names: Sequence[str]

    def load(self, index: int, exclude: frozenset[str]) -> LoadedImage | None:
        """Load an image; return None if its hash is in `exclude`. Raises `InputError` if it cannot be read."""


class _FileCandidates:
    def __init__(self, folder: Path, size: tuple[int, int], preprocess: Preprocess) -> None:
        self._paths = find_images(folder)
        self._size, self._preprocess = size, preprocess
        self.names: Sequence[str] = [p.relative_to(folder).as_posix() for p in self._paths]

    def load(self, index: int, exclude: frozenset[str]) -> LoadedImage | None:
        data = read_file(self._paths[index])
        if sha256(data) in exclude:
            return None
        image = load_image(self._paths[index], self._size, self._preprocess, data)
        return None if image.decoded in exclude else image


class _ArrayCandidates:
    def __init__(self, path: Path, size: tuple[int, int], preprocess: Preprocess) -> None:
        array = _read_npz(path)
        wanted = (*size, len(preprocess.mean))
        if array.ndim != 4 or array.shape[1:] != wanted:
            raise InputError(
                f"{path}: its array has shape {array.shape}, but the model's input is {('N', *wanted)}. Give a folder "
                "of image files to have them resized"
            )
        self._pixels = _pixels_from(path, array, preprocess)
        self.names: Sequence[str] = [f"{path.name}[{i}]" for i in range(len(array))]

    def load(self, index: int, exclude: frozenset[str]) -> LoadedImage | None:
        pixels = self._pixels[index]
        content = sha256(pixels.tobytes())
        return None if content in exclude else LoadedImage(pixels, content, content)


def _choose(
    candidates: _Candidates, count: int, seed: int, exclude: frozenset[str], progress: Progress
) -> tuple[dict[str, LoadedImage], list[str]]:
    """Return the chosen images by name, and the names of excluded ones. An error names every unreadable file."""
    images: dict[str, LoadedImage] = {}
    left_out: list[str] = []
    broken: list[str] = []
    total = min(count, len(candidates.names))
    order = _order(candidates.names, seed)
    while order and len(images) + len(broken) < total:
        wanted = total - len(images) - len(broken)
        batch, order = order[:wanted], order[wanted:]
        results = in_parallel(lambda index: _load_or_error(candidates, index, exclude), batch)
        for index, image in zip(batch, results, strict=True):
            if isinstance(image, InputError):
                broken.append(str(image))
            elif image is None:
                left_out.append(candidates.names[index])
            else:
                images[candidates.names[index]] = image
            progress("load calibration images", len(images), total)
    if broken:
        raise InputError(f"{len(broken)} of {total} calibration images cannot be used: {shorten(broken)}")
    return images, left_out


def _load_or_error(candidates: _Candidates, index: int, exclude: frozenset[str]) -> LoadedImage | InputError | None:
    try:
        return candidates.load(index, exclude)
    except InputError as error:
        return error


def _order(names: Sequence[str], seed: int) -> list[int]:
    return sorted(range(len(names)), key=lambda i: sha256(f"{seed}/{names[i]}".encode()))


def _checked(source: Path, images: dict[str, LoadedImage], left_out: list[str], count: int) -> CalibrationSet:
    warnings = []
    if left_out:
        warnings.append(
            f"{len(left_out)} calibration images are also in the evaluation set and were left out: {shorten(left_out)}"
        )
        if len(left_out) > len(images):
            raise InputError(
                f"{source}: most of these images are also in the evaluation set ({shorten(left_out)}); calibrate on "
                "other images, or the measured accuracy will be too good"
            )
    if len(images) < MIN_IMAGES:
        raise InputError(f"{source}: {len(images)} images to calibrate on, but at least {MIN_IMAGES} are needed")
    if len(images) < min(FEW_IMAGES, count):
        warnings.append(f"{len(images)} calibration images are few; {FEW_IMAGES} or more give more reliable ranges")
    pixels = np.stack([image.pixels for image in images.values()])
    _refuse_constant(source, pixels, list(images))
    _refuse_scaled(source, pixels)
    warnings += _suspicions(pixels, images)
    digest = sha256("\n".join(image.content for image in images.values()).encode())
    return CalibrationSet(pixels, tuple(images), digest, tuple(warnings))


def _refuse_constant(source: Path, pixels: Pixels, names: list[str]) -> None:
    constant = [name for name, image in zip(names, pixels, strict=True) if _equals(image, image[:1, :1])]
    if constant:
        raise InputError(
            f"{source}: {len(constant)} of {len(names)} calibration images have a single colour "
            f"({shorten(constant)}); remove them, since they tell nothing about the ranges of real images"
        )


def _equals(image: Pixels, part: Pixels) -> bool:
    """Return whether the image is `part` repeated. A few pixels are compared first, which decides most cases."""
    whole = np.broadcast_to(part, image.shape)
    return bool((image[::16, ::16] == whole[::16, ::16]).all() and (image == whole).all())


def _refuse_scaled(source: Path, pixels: Pixels) -> None:
    if pixels.max() <= 1:
        raise InputError(
            f"{source}: no pixel is above 1; it seems that the values were scaled to [0, 1] and then truncated to "
            "integers. Store the pixels themselves, 0 to 255"
        )


def _suspicions(pixels: Pixels, images: dict[str, LoadedImage]) -> list[str]:
    warnings = []
    if pixels.shape[-1] == 3:
        grey = [name for name, image in zip(images, pixels, strict=True) if _equals(image, image[..., :1])]
        if grey:
            warnings.append(f"{len(grey)} of {len(images)} calibration images are greyscale: {shorten(grey)}")
    first: dict[str, int] = {}
    for at, image in enumerate(images.values()):
        first.setdefault(image.content, at)
    if len(first) < len(images):
        warnings.append(f"{len(images) - len(first)} of {len(images)} calibration images are copies of others")
    kept, names = list(first.values()), list(images)
    return [*warnings, *check_images(pixels[kept], [names[at] for at in kept])]


def _read_npz(path: Path) -> npt.NDArray[np.generic]:
    """Return the only array of the file. Pickled objects are refused, since loading them can run any code."""
    if not path.is_file():
        raise missing(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if len(archive.files) != 1:
                raise InputError(
                    f"{path}: it contains {len(archive.files)} arrays ({shorten(archive.files)}) instead of one"
                )
            array: npt.NDArray[np.generic] = archive[archive.files[0]]
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an .npz of plain numbers: {error}") from error
    if not array.size:
        raise InputError(f"{path}: its array is empty")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{path}: its array is {array.dtype} instead of uint8 (pixels) or float")
    return array


def _pixels_from(path: Path, array: npt.NDArray[np.generic], preprocess: Preprocess) -> Pixels:
    """Return RGB pixels in the model's channel order; normalized floats are turned back into pixels."""
    if array.dtype == np.uint8:
        return to_channel_order(np.asarray(array, np.uint8), preprocess)
    values = np.asarray(array, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: its array has values that are not finite")
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    pixels = values * std + mean
    low, high = pixels.min((0, 1, 2)), pixels.max((0, 1, 2))
    if low.min() < -TOLERANCE or high.max() > 255 + TOLERANCE or (high - low).max() < MIN_SPAN:
        ends = np.array([-mean / std, (255 - mean) / std])
        raise InputError(
            f"{path}: its values lie in [{values.min():g}, {values.max():g}], but the model's preprocessing maps "
            f"pixels to [{ends.min():.4g}, {ends.max():.4g}]: they were normalized in another way. "
            "Store uint8 pixels, which are unambiguous"
        )
    rounded: Pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return rounded
