"""What is suspicious about a calibration set: told with advice, before a bad range is baked into a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.quantize.ranges import ChannelRange
from mbn_deploy.text import shorten

THUMB = 16  # pixels on a side of the grey picture by which images are compared
# Correlation of two such pictures. Of 300 photographs of ImageNet no two reach 0.9, of handwritten digits none 0.99;
# an image saved again with other brightness, size or compression does.
ALIKE = 0.99
FEW_ALIKE = 0.05  # of the images: a burst or two among hundreds does no harm
# One half of the images reaching twice as far as the other: the range is then a matter of which images came.
# Some tensors of V3 have tails that make for 90 % with 200 photographs; those of V2 stay below 35 % with 10.
UNSTEADY = 1.0


def lint(pixels: Pixels, names: Sequence[str]) -> tuple[str, ...]:
    """Warnings about images, uint8 (N, H, W, C), and their names (paths relative to the folder, `/` between parts)."""
    return (*_one_sided(names), *_near_duplicates(pixels, names))


def unsteady(ranges: Mapping[str, ChannelRange]) -> tuple[str, ...]:
    """A warning that names the tensors whose range differs between two halves of the images; see `observe`."""
    found = {name: drift for name, seen in ranges.items() if (drift := seen.drift) > UNSTEADY}
    if not found:
        return ()
    worst = sorted(found, key=lambda name: -found[name])
    text = (
        f"{len(found)} of {len(ranges)} tensors reach more than twice as far in one half of the calibration "
        f"images as in the other ({shorten(worst)}): calibrate on more images, or take out those "
        "that are unlike what the model will see"
    )
    return (text,)


def _one_sided(names: Sequence[str]) -> tuple[str, ...]:
    """Sub-folders are most often classes."""
    if not all("/" in name for name in names):
        return ()
    counts = Counter(name.split("/", 1)[0] for name in names)
    folder, most = counts.most_common(1)[0]
    share = most / len(names)
    if share <= max(0.5, 1.8 / len(counts)):  # never of one folder alone
        return ()
    text = (
        f"{share:.0%} of the calibration images are of the sub-folder {folder!r}, one of {len(counts)}: "
        "ranges of the others may be cut off; take about as many of each"
    )
    return (text,)


def _near_duplicates(pixels: Pixels, names: Sequence[str]) -> tuple[str, ...]:
    thumbs = np.stack([_thumb(image) for image in pixels])
    alike = np.triu(thumbs @ thumbs.T, 1) >= ALIKE
    later = np.flatnonzero(alike.any(0))
    if later.size <= FEW_ALIKE * len(names):
        return ()
    pairs = (f"{names[int(np.flatnonzero(alike[:, i])[0])]} and {names[i]}" for i in later.tolist())
    text = (
        f"{later.size} of {len(names)} calibration images look like one before them ({shorten(pairs)}): "
        "they add nothing to the ranges; frames of one scene count as one image"
    )
    return (text,)


def _thumb(image: Pixels) -> Floats:
    """The image, (H, W, C), as a small grey one without its mean and contrast: a vector of length 1."""
    grey = Image.fromarray(np.rint(image.mean(-1, dtype=np.float32)).astype(np.uint8))
    values = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX), np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    made: Floats = values / max(length, float(np.finfo(np.float32).tiny))
    return made
