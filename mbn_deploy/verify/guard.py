"""The accuracy guard: how much accuracy an int8 file loses against float, and whether that is within the budget.

The same labelled images go through both models and are compared image by image. Without labels only the share of
images with the same first answer is known. It bounds the loss from above: where two answers differ, both may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mbn_deploy.verify.evaluate import Comparison, Evaluation
from mbn_deploy.verify.statistics import Z95, Estimate

PERCENT = 100.0


@dataclass(frozen=True)
class Verdict:
    """The guard's verdict on one file; shares are fractions of 1.

    Attributes:
        file: name of the file.
        images: number of images in the evaluation.
        drop: top-1 of float minus top-1 of the file, with its paired 95 % interval; None without labels.
        agreement: share of images with the same first answer as float.
        kl: see `Comparison.kl`.
        confidence_drift: see `Comparison.confidence_drift`.
        holds: whether the drop (without labels: the share of other first answers) is within the budget.
        decided: whether the whole interval lies on one side of the budget.
        needed: if undecided, how many images would decide if the drop stays what it is.
    """

    file: str
    images: int
    drop: Estimate | None
    agreement: Estimate
    kl: float | None
    confidence_drift: float | None
    holds: bool
    decided: bool
    needed: int | None


@dataclass(frozen=True)
class RecipeResult:
    """A recipe that was tried: the verdict on its worst file, the size in bytes, the latency in ms on one thread."""

    recipe: str
    precision: str
    verdict: Verdict
    size: int
    latency_ms: float

    @property
    def holds(self) -> bool:
        """Whether the worst file is within the budget."""
        return self.verdict.holds


def judge(evaluation: Evaluation, files: Sequence[str], max_drop: float) -> Verdict:
    """Return the verdict on the worst of `files` in `evaluation`, for a budget of `max_drop` percentage points."""
    verdicts = [_verdict(evaluation, name, max_drop / PERCENT) for name in files]
    return max(verdicts, key=lambda v: (not v.holds, -v.agreement.value if v.drop is None else v.drop.value))


def _verdict(evaluation: Evaluation, name: str, budget: float) -> Verdict:
    comparison, images = evaluation.comparison[name], evaluation.images
    loss = _loss(comparison)
    decided = loss.high <= budget or loss.low > budget
    return Verdict(
        file=name,
        images=images,
        drop=None if comparison.top1_difference is None else loss,
        agreement=comparison.agreement,
        kl=comparison.kl,
        confidence_drift=comparison.confidence_drift,
        holds=loss.value <= budget,
        decided=decided,
        needed=None if decided else _needed(loss, images, budget),
    )


def _loss(comparison: Comparison) -> Estimate:
    """Return the drop of top-1 where there are labels, else the share of images with another first answer."""
    if comparison.top1_difference is not None:
        gain = comparison.top1_difference
        return Estimate(0.0 - gain.value, 0.0 - gain.high, 0.0 - gain.low)
    same = comparison.agreement
    return Estimate(1 - same.value, 1 - same.high, 1 - same.low)


def _needed(loss: Estimate, images: int, budget: float) -> int | None:
    """Return how many images give an interval that ends at the budget: its width falls with their square root."""
    distance = abs(budget - loss.value)
    if distance == 0:
        return None
    deviation = (loss.high - loss.low) / (2 * Z95) * math.sqrt(images)
    return math.ceil((Z95 * deviation / distance) ** 2)


def sentence(verdict: Verdict, max_drop: float) -> str:
    """Say in words what the file loses or gains, and whether the images were enough to tell."""
    if verdict.drop is None:
        said = (
            f"{verdict.file} gives the same first answer as float on {_percent(verdict.agreement)} of "
            f"{verdict.images} images without labels; its top-1 on them is at most "
            f"{PERCENT * (1 - verdict.agreement.value):.2f} points lower"
        )
    else:
        said = (
            f"{verdict.file} {_change(verdict.drop)} on {verdict.images} images; "
            f"the same first answer as float on {_percent(verdict.agreement)}"
        )
    return said + _undecided(verdict, max_drop)


def _change(drop: Estimate) -> str:
    """Write a drop of top-1 as a loss, or as a gain if it is negative; the interval has the same direction."""
    gains = drop.value < 0
    value, low, high = (-drop.value, -drop.high, -drop.low) if gains else (drop.value, drop.low, drop.high)
    bounds = f"{PERCENT * low:+.2f} to {PERCENT * high:+.2f}"
    return f"{'gains' if gains else 'loses'} {PERCENT * value:.2f} points of top-1 (95 %: {bounds})"


def _undecided(verdict: Verdict, max_drop: float) -> str:
    if verdict.decided:
        return ""
    more = "" if verdict.needed is None else f"; use about {verdict.needed}"
    return f". {verdict.images} images are too few to tell whether the {max_drop:g}-point limit holds{more}"


def _percent(share: Estimate) -> str:
    return f"{PERCENT * share.value:.1f} %"


def recipe_record(result: RecipeResult) -> dict[str, Any]:
    """Return the JSON form for the manifest, without the latency, which differs from run to run."""
    return {
        "recipe": result.recipe,
        "precision": result.precision,
        "size": result.size,
        **{key: _rounded(value) for key, value in asdict(result.verdict).items()},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value
