"""Measures embeddings: the cosine to the reference's vectors, and whether the nearest other picture is the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mbn_deploy.arrays import Array, Floats
from mbn_deploy.verify.measures.measure import Accuracy, Columns, Comparison, Measure, Part
from mbn_deploy.verify.statistics import Estimate, mean_estimate, negative, paired_difference, proportion

GALLERY = 2000  # pictures whose neighbours are looked for at most: their number grows with the square
EQUAL = 1e-6  # cosines that differ by less are equal: copies of a picture are neighbours in any order


@dataclass(frozen=True)
class EmbeddingMeasure(Measure):
    """Feature vectors.

    The guard judges the drop of the share of pictures whose nearest other picture is of the same class; without classes
    1 minus the mean cosine to the reference's vectors.
    """

    main: ClassVar[str] = "neighbour_accuracy"
    decides: ClassVar[bool] = False
    unlabelled_main: ClassVar[str] = "cosine"

    def columns(self, scores: Floats, reference: Floats | None, first: int) -> Columns:
        """Return the cosine to the reference's vector, and every n-th vector itself at length 1."""
        vectors = _unit(scores)
        columns = {"vectors": vectors[_gallery(first, len(vectors), self.every)]}
        if reference is not None:
            columns["cosine"] = _cosines(vectors, _unit(reference))
        return columns

    def accuracy(self, own: Columns, truth: Array) -> Accuracy:
        """Return the share of pictures whose nearest other picture is of the same class, and that of each class."""
        right, classes = _neighbours_of_same_class(own, truth[:: self.every]), truth[:: self.every]
        parts = [
            Part(name, int((classes == index).sum()), {"neighbour_accuracy": float(right[classes == index].mean())})
            for index, name in enumerate(self.names)
            if (classes == index).any()
        ]
        return Accuracy(
            images=len(right), figures={self.main: proportion(int(right.sum()), len(right))}, parts=tuple(parts)
        )

    def compare(self, name: str, own: Columns, reference: Columns, truth: Array | None) -> Comparison:
        """Compare the vectors by their cosines, and the nearest other picture of each."""
        cosine = own["cosine"]
        same = _same_neighbours(own["vectors"], reference["vectors"])
        difference = None
        mean = mean_estimate(cosine)
        loss = Estimate(1 - mean.value, 1 - mean.high, 1 - mean.low).within(0.0, 2.0)
        if truth is not None:
            classes = truth[:: self.every]
            difference = paired_difference(
                _neighbours_of_same_class(own, classes), _neighbours_of_same_class(reference, classes)
            )
            loss = negative(difference)
        return Comparison(
            reference=name,
            difference=difference,
            agreement=proportion(int(same.sum()), len(same)),
            loss=loss,
            more={"cosine": mean.value, "least_cosine": float(cosine.min())},
        )

    def differences(self, own: Columns, reference: Columns) -> Array:
        """Return 1 minus the cosine to the reference's vector."""
        del reference
        distances: Array = 1 - own["cosine"]
        return distances

    def right(self, own: Columns, truth: Array) -> Array:
        """Return that none is exactly right."""
        del truth
        return np.zeros(len(own["cosine"]), bool)

    def certainty(self, own: Columns) -> Array:
        """Return 0 for each image."""
        return np.zeros(len(own["cosine"]), np.float32)

    def described(self, own: Columns, image: int) -> tuple[tuple[str, str], ...]:
        """Return the cosine to the reference's vector."""
        return (("cosine", f"{own['cosine'][image]:.4f}"),)

    def described_truth(self, truth: Array, image: int) -> str:
        """Return the name of the class."""
        return self.names[int(truth[image])]


def gallery_step(images: int) -> int:
    """Return n such that every n-th of so many images makes at most `GALLERY`."""
    return -(-images // GALLERY)


def _gallery(first: int, count: int, every: int) -> slice:
    return slice(-first % every, count, every)


def _unit(vectors: Floats) -> Floats:
    """Scale vectors (N, features) to length 1; a vector of zeros stays one."""
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    scaled: Floats = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return scaled


def _cosines(ours: Floats, theirs: Floats) -> Floats:
    """Return the cosine of each pair of vectors of length 1; 1 for two vectors of zeros."""
    cosines: Floats = np.clip((ours.astype(np.float64) * theirs).sum(axis=1), -1.0, 1.0).astype(np.float32)
    return np.where(ours.any(axis=1) | theirs.any(axis=1), cosines, np.float32(1.0))


def _similarities(vectors: Floats) -> Floats:
    """Return the cosine of each pair of vectors, (N, N), and less than any for each with itself."""
    similarities: Floats = vectors @ vectors.T
    np.fill_diagonal(similarities, -2.0)
    return similarities


def _same_neighbours(ours: Floats, theirs: Floats) -> Array:
    """Return whether the nearest other picture is the same, or as near in the reference as its nearest, (N,)."""
    reference = _similarities(theirs)
    chosen = np.take_along_axis(reference, _similarities(ours).argmax(axis=1)[:, None], axis=1)[:, 0]
    same: Array = chosen >= reference.max(axis=1) - EQUAL
    return same


def _neighbours_of_same_class(own: Columns, classes: Array) -> Array:
    same: Array = classes[_similarities(own["vectors"]).argmax(axis=1)] == classes
    return same
