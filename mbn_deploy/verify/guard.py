"""The accuracy guard: what int8 loses against float, and whether that is within what was allowed.

Judged by the same labelled images through both models, image by image. Without labels all that can
be said is how often both give the same answer, which bounds the loss from above: answers that part
may both be wrong.
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
class Judgement:
    """What was found of one file; shares are fractions of 1.

    `drop` is float minus int8 (`None` without labels), with its paired 95 % interval. `holds`: the
    drop is within the budget, or without labels the share of other answers is. `decided`: the
    interval lies on one side of the budget; if not, `needed` images would decide at this drop.
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
class Rung:
    """One recipe that was tried: the judgement of its worst file, size in bytes, latency in ms (one thread)."""

    recipe: str
    precision: str
    judgement: Judgement
    size: int
    latency_ms: float

    @property
    def holds(self) -> bool:
        """Whether the budget holds."""
        return self.judgement.holds


def judge(evaluation: Evaluation, files: Sequence[str], max_drop: float) -> Judgement:
    """The worst of `files` in `evaluation` against a budget of `max_drop` percentage points."""
    found = [_judgement(evaluation, name, max_drop / PERCENT) for name in files]
    return max(found, key=lambda j: (not j.holds, -j.agreement.value if j.drop is None else j.drop.value))


def _judgement(evaluation: Evaluation, name: str, budget: float) -> Judgement:
    compared, images = evaluation.comparison[name], evaluation.images
    loss = _loss(compared)
    decided = loss.high <= budget or loss.low > budget
    return Judgement(
        file=name,
        images=images,
        drop=None if compared.top1_difference is None else loss,
        agreement=compared.agreement,
        kl=compared.kl,
        confidence_drift=compared.confidence_drift,
        holds=loss.value <= budget,
        decided=decided,
        needed=None if decided else _needed(loss, images, budget),
    )


def _loss(compared: Comparison) -> Estimate:
    """The drop where there are labels, the share of other answers where there are none."""
    if compared.top1_difference is not None:
        gain = compared.top1_difference
        return Estimate(0.0 - gain.value, 0.0 - gain.high, 0.0 - gain.low)
    same = compared.agreement
    return Estimate(1 - same.value, 1 - same.high, 1 - same.low)


def _needed(loss: Estimate, images: int, budget: float) -> int | None:
    """Images for which an interval around this loss would end at the budget: its width falls with their root."""
    distance = abs(budget - loss.value)
    if distance == 0:
        return None
    deviation = (loss.high - loss.low) / (2 * Z95) * math.sqrt(images)
    return math.ceil((Z95 * deviation / distance) ** 2)


def sentence(judgement: Judgement, max_drop: float) -> str:
    """What was found, for a person."""
    if judgement.drop is None:
        return (
            f"{judgement.file} gives the same first answer as float on {_percent(judgement.agreement)} of "
            f"{judgement.images} images without labels; that bounds what it can lose, and does not say what it loses"
            + _undecided(judgement, max_drop)
        )
    loss = judgement.drop
    return (
        f"{judgement.file} loses {PERCENT * loss.value:.2f} points of top-1 "
        f"(95 %: {PERCENT * loss.low:+.2f} to {PERCENT * loss.high:+.2f}) on {judgement.images} images; "
        f"the same first answer as float on {_percent(judgement.agreement)}" + _undecided(judgement, max_drop)
    )


def _undecided(judgement: Judgement, max_drop: float) -> str:
    if judgement.decided:
        return ""
    many = "" if judgement.needed is None else f"; about {judgement.needed} would"
    return f"; {judgement.images} images do not decide whether {max_drop:g} is kept{many}"


def _percent(share: Estimate) -> str:
    return f"{PERCENT * share.value:.1f} %"


def rung_facts(rung: Rung) -> dict[str, Any]:
    """The JSON form for the manifest; without latency, which is not the same twice."""
    return {
        "recipe": rung.recipe,
        "precision": rung.precision,
        "size": rung.size,
        **{key: _rounded(value) for key, value in asdict(rung.judgement).items()},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value
