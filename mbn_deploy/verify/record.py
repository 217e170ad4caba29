"""The figures of an evaluation as JSON values: in full for programs, or short for the manifest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.measures.measure import Accuracy, Comparison, Confusion, Part
from mbn_deploy.verify.statistics import Estimate

DIGITS = 6  # of measured values: sums of floats are not the same to the last bit on every run
# Of a manifest: more classes than these are given as the worst ones and the most frequent confusions.
MOST_PARTS, MOST_CONFUSIONS = 50, 50
MATRIX = 20  # classes of which all confusions are kept, since a matrix of them can be read


def accuracy_record(accuracy: Accuracy | None, *, full: bool = True, also: Collection[str] = ()) -> dict[str, Any]:
    """Return a model's figures, those of its classes, labels or values (`parts`), and its `confusions`; {} for None.

    A short record of many classes has the worst ones, and those that `also` names.
    """
    if accuracy is None:
        return {}
    record: dict[str, Any] = {key: estimate_record(value) for key, value in accuracy.figures.items()}
    parts, confused = accuracy.parts, accuracy.confusions
    if not full and len(parts) > MOST_PARTS:
        kept = {part.name for part in worst(parts)[:MOST_PARTS]}.union(also)
        parts = tuple(part for part in parts if part.name in kept)
    if not full and len(accuracy.parts) > MATRIX:
        confused = confused[:MOST_CONFUSIONS]
    if parts:
        record["parts"] = [_part(part) for part in parts]
    if confused:
        record["confusions"] = [_confusion(each) for each in confused]
    return record


def comparison_record(compared: Comparison, measure_main: str) -> dict[str, Any]:
    """Return a comparison; the difference of the figure that counts is called by it, as in `top1_difference`."""
    record: dict[str, Any] = {
        f"{measure_main}_difference": None if compared.difference is None else estimate_record(compared.difference),
        **{key: rounded(value) for key, value in compared.more.items()},
    }
    if compared.agreement is not None:
        record["agreement"] = estimate_record(compared.agreement)
    if compared.parts:
        record["parts"] = [_part(part) for part in compared.parts]
    return record


def loader_record(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Return the figures of the Keras model `name` on other pixels, and how it agrees with itself on ours."""
    record: dict[str, Any] = {}
    if name in evaluation.accuracy:
        record |= {key: estimate_record(value) for key, value in evaluation.accuracy[name].figures.items()}
    compared = comparison_record(evaluation.comparison[name], evaluation.measure.main)
    return record | {key: value for key, value in compared.items() if key != "parts"}


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything that was measured, for `evaluate --json`."""
    main = evaluation.measure.main
    return {
        "dataset": evaluation.dataset,
        "images": evaluation.images,
        "meaning": evaluation.measure.answers.meaning,
        "resize": None if evaluation.resized is None else evaluation.resized.resize,
        "accuracy": {
            name: {"images": each.images, **accuracy_record(each)} for name, each in evaluation.accuracy.items()
        },
        "comparison": {
            name: {"reference": each.reference, **comparison_record(each, main)}
            for name, each in evaluation.comparison.items()
        },
    }


def worst(parts: Sequence[Part]) -> list[Part]:
    """Sort parts by their first figure, the lowest first; of equal ones those of more images first."""
    known = [part for part in parts if next(iter(part.figures.values())) is not None]
    return sorted(known, key=lambda part: (next(iter(part.figures.values())) or 0.0, -part.images))


def merged_parts(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the parts of an accuracy and of a comparison by their names."""
    others = {part["name"]: part for part in second}
    names = {part["name"] for part in first}
    return [others.get(part["name"], {}) | part for part in first] + [p for p in second if p["name"] not in names]


def estimate_record(estimate: Estimate) -> dict[str, float | None]:
    """Return an estimate with the ends of its interval."""
    return {key: rounded(value) for key, value in asdict(estimate).items()}


def rounded(value: float | None) -> float | None:
    """Round a measured value; None stays None."""
    return None if value is None else round(value, DIGITS)


def _part(part: Part) -> dict[str, Any]:
    return {"name": part.name, "images": part.images, **{key: rounded(v) for key, v in part.figures.items()}}


def _confusion(confusion: Confusion) -> dict[str, Any]:
    return asdict(confusion)
