"""The accuracy guard: how much accuracy an int8 file loses against float, and whether that is within the budget.

The same labelled images go through both models and are compared image by image. Without labels only the share of
images with the same answer is known. It bounds the loss from above: where two answers differ, both may be wrong. What
is judged for each meaning of the answers is written at its measure (`verify/measures/`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mbn_deploy.answers import Meaning
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.measures.measure import Figures
from mbn_deploy.verify.statistics import Z95, Estimate, negative

PERCENT = 100.0


@dataclass(frozen=True)
class Wording:
    """How the guard speaks of a loss: "loses 1.00 points of top-1" with labels, and what bounds it without."""

    points: str
    unlabelled: str


WORDINGS: dict[Meaning, Wording] = {
    "classes": Wording(
        "points of top-1",
        "gives the same first answer as float on {agreement} of {images} images without labels; its top-1 on them is "
        "at most {loss} points lower",
    ),
    "binary": Wording(
        "points of accuracy",
        "decides like float on {agreement} of {images} images without labels; its accuracy on them is at most {loss} "
        "points lower",
    ),
    "labels": Wording(
        "points of mean average precision",
        "decides like float on {agreement} of the labels of {images} images, of which the right labels are not known",
    ),
    "values": Wording(
        "% of the values' standard deviation in mean absolute error",
        "is on average {loss} % of the values' standard deviation away from float on {images} images, of which the "
        "right values are not known",
    ),
    "embedding": Wording(
        "points of pictures whose nearest neighbour is of their class",
        "gives vectors whose mean cosine to those of float is {cosine:.4f} on {images} images without classes",
    ),
}


@dataclass(frozen=True)
class Verdict:
    """The guard's verdict on one file; shares are fractions of 1.

    Attributes:
        file: name of the file.
        images: number of images in the evaluation.
        drop: how much the figure that counts is worse than float's, with its paired 95 % interval (`Comparison.loss`);
            None without labels.
        agreement: share of images with the same answer as float; None for values.
        holds: whether the drop (without labels: its bound) is within the budget.
        decided: whether the whole interval lies on one side of the budget.
        needed: if undecided, how many images would decide if the drop stays what it is.
        loss: the drop, or without labels its bound.
        meaning: what was measured.
        more: other figures of the comparison.
    """

    file: str
    images: int
    drop: Estimate | None
    agreement: Estimate | None
    holds: bool
    decided: bool
    needed: int | None
    loss: Estimate
    meaning: Meaning = "classes"
    more: Figures = field(default_factory=dict)


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
    return max(verdicts, key=lambda v: (not v.holds, v.loss.value))


def _verdict(evaluation: Evaluation, name: str, budget: float) -> Verdict:
    comparison, images = evaluation.comparison[name], evaluation.images
    loss = comparison.loss
    decided = loss.high <= budget or loss.low > budget
    return Verdict(
        file=name,
        images=images,
        drop=None if comparison.difference is None else loss,
        agreement=comparison.agreement,
        holds=loss.value <= budget,
        decided=decided,
        needed=None if decided else _needed(loss, images, budget),
        loss=loss,
        meaning=evaluation.measure.answers.meaning,
        more=comparison.more,
    )


def _needed(loss: Estimate, images: int, budget: float) -> int | None:
    """Return how many images give an interval that ends at the budget: its width falls with their square root."""
    distance = abs(budget - loss.value)
    if distance == 0:
        return None
    deviation = (loss.high - loss.low) / (2 * Z95) * math.sqrt(images)
    return math.ceil((Z95 * deviation / distance) ** 2)


def sentence(verdict: Verdict, max_drop: float) -> str:
    """Say in words what the file loses or gains, and whether the images were enough to tell."""
    wording = WORDINGS[verdict.meaning]
    if verdict.drop is None:
        said = wording.unlabelled.format(
            agreement=_percent(verdict.agreement),
            images=verdict.images,
            loss=f"{PERCENT * verdict.loss.value:.2f}",
            cosine=verdict.more.get("cosine"),
        )
        return f"{verdict.file} {said}{_undecided(verdict, max_drop)}"
    same = "" if verdict.agreement is None else f"; the same answer as float on {_percent(verdict.agreement)}"
    change = _change(verdict.drop, wording.points)
    return f"{verdict.file} {change} on {verdict.images} images{same}{_undecided(verdict, max_drop)}"


def _change(drop: Estimate, points: str) -> str:
    """Write a drop as a loss, or as a gain if it is negative; the interval has the same direction."""
    gains = drop.value < 0
    shown = negative(drop) if gains else drop
    bounds = f"{PERCENT * shown.low:+.2f} to {PERCENT * shown.high:+.2f}"
    return f"{'gains' if gains else 'loses'} {PERCENT * shown.value:.2f} {points} (95 %: {bounds})"


def _undecided(verdict: Verdict, max_drop: float) -> str:
    if verdict.decided:
        return ""
    more = "" if verdict.needed is None else f"; use about {verdict.needed}"
    return f". {verdict.images} images are too few to tell whether the {max_drop:g}-point limit holds{more}"


def _percent(share: Estimate | None) -> str:
    return "-" if share is None else f"{PERCENT * share.value:.1f} %"


def recipe_record(result: RecipeResult) -> dict[str, Any]:
    """Return the JSON form for the manifest, without the latency, which differs from run to run."""
    verdict = {key: value for key, value in asdict(result.verdict).items() if key not in ("more", "loss", "meaning")}
    if result.verdict.drop is None:
        verdict["loss"] = asdict(result.verdict.loss)
    return {
        "recipe": result.recipe,
        "precision": result.precision,
        "size": result.size,
        **{key: _rounded(value) for key, value in (verdict | dict(result.verdict.more)).items()},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value
