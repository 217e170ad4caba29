"""The measure of a meaning."""

from __future__ import annotations

from mbn_deploy.answers import Answers, Meaning
from mbn_deploy.verify.measures.binary import BinaryMeasure
from mbn_deploy.verify.measures.classes import ClassesMeasure
from mbn_deploy.verify.measures.embedding import EmbeddingMeasure, gallery_step
from mbn_deploy.verify.measures.labels import LabelsMeasure
from mbn_deploy.verify.measures.measure import THRESHOLD, Measure
from mbn_deploy.verify.measures.values import ValuesMeasure

MEASURES: dict[Meaning, type[Measure]] = {
    "classes": ClassesMeasure,
    "labels": LabelsMeasure,
    "binary": BinaryMeasure,
    "values": ValuesMeasure,
    "embedding": EmbeddingMeasure,
}


def measure_for(answers: Answers, names: tuple[str, ...], images: int, threshold: float = THRESHOLD) -> Measure:
    """Return the measure of a model's answers to so many images; `names` are those of the data set."""
    every = gallery_step(max(images, 1)) if answers.meaning == "embedding" else 1
    return MEASURES[answers.meaning](answers, names, threshold, every)
