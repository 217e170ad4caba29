"""The real numbers that a quantized input covers, and whether pixels after a preprocessing are among them."""

from __future__ import annotations

import numpy as np

from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess, TensorInfo
from mbn_deploy.runtime.tensors import INTEGERS

# What preprocessing in use makes of the pixels 0 and 255 in every channel alike. A uint8 input that covers one of
# these ranges takes raw pixels; one that covers another range was calibrated, and its levels are no pixels.
PIXEL_RANGES = (
    (0.0, 1.0),
    (-1.0, 1.0),
    (0.0, 255.0),
    (-128.0, 127.0),
    (-0.5, 0.5),
    (-2.0, 2.0),  # mean 0.5, deviation 0.25
    (-0.1307 / 0.3081, (1 - 0.1307) / 0.3081),  # MNIST as torchvision's examples normalize it
)
# Share of a range by which its ends may differ: a level and a half of 255. With (pixel - 128) / 128, the upper end is
# a level below 1.
_TOLERANCE = 1.5 / 255
# Share that two ranges must have in common, of the range from the lowest end to the highest. Half of [-1, 1] is all
# that [0, 1] has in common with it.
_LEAST_OVERLAP = 0.55


def covered_range(tensor: TensorInfo) -> tuple[float, float] | None:
    """Return the smallest and the largest real number of a quantized input; None if it has no scale."""
    if tensor.scale is None or tensor.dtype not in INTEGERS:
        return None
    limits = np.iinfo(tensor.dtype)
    zero = tensor.zero_point or 0
    return tensor.scale * (int(limits.min) - zero), tensor.scale * (int(limits.max) - zero)


def takes_pixels(tensor: TensorInfo) -> bool:
    """Return whether a uint8 input takes pixels as they are: it has no scale, or covers one of `PIXEL_RANGES`."""
    covered = covered_range(tensor)
    if tensor.dtype != "uint8" or covered is None:
        return tensor.dtype == "uint8"
    return any(
        all(abs(a - b) <= _TOLERANCE * (high - low) for a, b in zip(covered, (low, high), strict=True))
        for low, high in PIXEL_RANGES
    )


def check_fits(preprocess: Preprocess, tensor: TensorInfo, where: str) -> None:
    """Raise `UsageError` if a preprocessing makes numbers of pixels that are not those of a quantized input."""
    covered = covered_range(tensor)
    if covered is None:
        return
    ends = [((pixel - m) / s) for m, s in zip(preprocess.mean, preprocess.std, strict=True) for pixel in (0, 255)]
    low, high = min(ends), max(ends)
    common = min(high, covered[1]) - max(low, covered[0])
    if common < _LEAST_OVERLAP * (max(high, covered[1]) - min(low, covered[0])):
        hint = "leave it out, as this input takes pixels as they are" if takes_pixels(tensor) else "give another"
        raise UsageError(
            f"{where}: this preprocessing turns pixels into {in_words((low, high))}, but the {tensor.dtype} input "
            f"covers {in_words(covered)}; {hint}"
        )


def in_words(ends: tuple[float, float]) -> str:
    """Return a range as in `[-1, 0.992]`."""
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"
