"""Warn about suspicious calibration sets, with advice, before bad ranges get into a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.quantize.ranges import ChannelRange
from mbn_deploy.text import shorten

THUMB = 16  # side in pixels of the grey thumbnails by which images are compared
# Correlation of two thumbnails. Of 300 photographs of ImageNet no two reach 0.9, of handwritten digits none reach 0.99;
# an image and a copy with other brightness, size or compression do.
ALIKE = 0.99
FEW_ALIKE = 0.05  # share of the images: a burst or two among hundreds does no harm
# The span on one half of the images is twice that on the other, so the range depends on which images were chosen.
# Some tensors of V3 have long tails and drift by 0.9 with 200 photographs; those of V2 stay below 0.35 with 10.
UNSTEADY = 1.0


def check_images(pixels: Pixels, names: Sequence[str]) -> tuple[str, ...]:
    """Return warnings about images, uint8 (N, H, W, C), and their names, paths relative to the folder with `/`."""
    return (*dominant_folder(names), *near_duplicates(pixels, names))


def unsteady_ranges(ranges: Mapping[str, ChannelRange]) -> tuple[str, ...]:
    """Return a warning that names the tensors whose range differs between two halves of the images, if any."""
    drifts = {name: seen.drift for name, seen in ranges.items() if seen.drift > UNSTEADY}
    if not drifts:
        return ()
    worst = sorted(drifts, key=lambda name: -drifts[name])
    text = (
        f"{len(drifts)} of {len(ranges)} tensors have a range more than twice as wide in one half of the calibration "
        f"images as in the other ({shorten(worst)}): calibrate on more images, or remove those that are unlike what "
        "the model will see"
    )
    return (text,)


def dominant_folder(names: Sequence[str]) -> tuple[str, ...]:
    """Return a warning if most images are in one of several sub-folders, which usually are classes."""
    if not all("/" in name for name in names):
        return ()
    counts = Counter(name.split("/", 1)[0] for name in names)
    folder, most = counts.most_common(1)[0]
    share = most / len(names)
    if share <= max(0.5, 1.8 / len(counts)):  # a single folder never is above this
        return ()
    text = (
        f"{share:.0%} of the calibration images are in the sub-folder {folder!r}, one of {len(counts)}: values of "
        "the other classes may be clipped; use about as many images of each"
    )
    return (text,)


def near_duplicates(pixels: Pixels, names: Sequence[str]) -> tuple[str, ...]:
    """Return a warning if many images look like one before them."""
    thumbs = np.stack([thumbnail(image) for image in pixels])
    alike = np.triu(thumbs @ thumbs.T, 1) >= ALIKE
    later = np.flatnonzero(alike.any(0))
    if later.size <= FEW_ALIKE * len(names):
        return ()
    pairs = (f"{names[int(np.flatnonzero(alike[:, i])[0])]} and {names[i]}" for i in later.tolist())
    text = (
        f"{later.size} of {len(names)} calibration images look like one before them ({shorten(pairs)}): "
        "they add nothing to the ranges, like frames of one scene"
    )
    return (text,)


def thumbnail(image: Pixels) -> Floats:
    """Return the image (H, W, C) as a small grey one, without its mean and contrast: a vector of length 1."""
    grey = Image.fromarray(np.rint(image.mean(-1, dtype=np.float32)).astype(np.uint8))
    values = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX), np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return np.asarray(values / max(length, float(np.finfo(np.float32).tiny)))
