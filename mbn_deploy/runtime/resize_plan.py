"""The part of an image that a model's input shows, for each way to resize.

A plan is arithmetic on sizes: nothing is decoded here. The packages for Android and iOS compute the same plans, and
their tests compare them with these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mbn_deploy.manifest import Preprocess, Resize

# A JPEG is decoded smaller (1/2, 1/4, 1/8, in the DCT domain) while at least this many of its pixels are left for each
# output pixel, along both axes. The decoder keeps every frequency below the reduced image's Nyquist limit; with two
# pixels for each output pixel that is twice the output's limit, and everything that the antialiasing filter of the
# following resize would pass is still there.
REDUCTION_GAP = 2.0
REDUCTIONS = (8, 4, 2)

Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True)
class ResizePlan:
    """A box of the stored image (left, top, right, bottom) and the size (width, height) that it is resized to.

    An `inner` size below the model's input is centred on black (letterbox).
    """

    box: tuple[float, float, float, float]
    inner: Size


def plan_resize(size: Size, target: Size, preprocess: Preprocess) -> ResizePlan:
    """Return the plan for an image of `size` and a model input of `target`, both (width, height).

    All boxes are centred, so a plan stays right when the image is rotated or mirrored.
    """
    return _PLANS[preprocess.resize](size, target, preprocess.crop_fraction)


def jpeg_reduction(plan: ResizePlan) -> int:
    """Return how many times smaller a JPEG may be decoded for a plan: 1, 2, 4 or 8; see `REDUCTION_GAP`."""
    left, top, right, bottom = plan.box
    gap = min((right - left) / plan.inner[0], (bottom - top) / plan.inner[1])
    return next((factor for factor in REDUCTIONS if gap >= REDUCTION_GAP * factor), 1)


def _squash(size: Size, target: Size, _crop_fraction: float) -> ResizePlan:
    return ResizePlan(_whole(size), target)


def _letterbox(size: Size, target: Size, _crop_fraction: float) -> ResizePlan:
    scale = min(target[0] / size[0], target[1] / size[1])
    return ResizePlan(_whole(size), (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))


def _crop(size: Size, target: Size, crop_fraction: float) -> ResizePlan:
    width, height = size
    scale = min(width / target[0], height / target[1]) * crop_fraction
    left, top = (width - target[0] * scale) / 2, (height - target[1] * scale) / 2
    return ResizePlan((left, top, width - left, height - top), target)


def _whole(size: Size) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(size[0]), float(size[1])


_PLANS: dict[Resize, Callable[[Size, Size, float], ResizePlan]] = {
    "squash": _squash,
    "letterbox": _letterbox,
    "crop": _crop,
}
