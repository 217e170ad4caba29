"""Measures values: how far they are from the right ones, and from those of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mbn_deploy.arrays import Array, Doubles, Floats
from mbn_deploy.verify.measures.measure import Accuracy, Columns, Comparison, Measure, Part
from mbn_deploy.verify.statistics import Estimate, mean_estimate


@dataclass(frozen=True)
class ValuesMeasure(Measure):
    """Numbers of a regression.

    The guard judges by how much the mean absolute error grows, or without the right values the mean distance from the
    reference, which bounds it. Both are fractions of the standard deviation of each value over the images, so that
    values of any unit, and several of them, can be judged alike.
    """

    main: ClassVar[str] = "mean_absolute_error"
    decides: ClassVar[bool] = False
    unlabelled_main: ClassVar[str] = "mean_distance"

    def columns(self, scores: Floats, reference: Floats | None, first: int) -> Columns:
        """Return the values themselves."""
        del reference, first
        return {"values": scores.astype(np.float32)}

    def accuracy(self, own: Columns, truth: Array) -> Accuracy:
        """Return the mean absolute and the root mean square error, of all values and of each."""
        errors = np.abs(own["values"] - truth)
        squared = mean_estimate((errors.astype(np.float64) ** 2).mean(axis=1))
        roots = (float(np.sqrt(max(end, 0.0))) for end in (squared.value, squared.low, squared.high))
        return Accuracy(
            images=len(truth),
            figures={
                self.main: _not_negative(mean_estimate(errors.mean(axis=1))),
                "root_mean_square_error": Estimate(*roots),
            },
            parts=tuple(
                Part(name, len(truth), {self.main: float(column.mean()), "root_mean_square_error": _root_mean(column)})
                for name, column in zip(self.names, errors.T.astype(np.float64), strict=True)
            ),
        )  # fmt: skip

    def compare(self, name: str, own: Columns, reference: Columns, truth: Array | None) -> Comparison:
        """Compare the errors, or the values themselves."""
        distances = np.abs(own["values"] - reference["values"])
        difference = None
        if truth is None:
            loss = _not_negative(mean_estimate((distances / _spread(reference["values"])).mean(axis=1)))
        else:
            growth = np.abs(own["values"] - truth) - np.abs(reference["values"] - truth)
            difference = mean_estimate(growth.mean(axis=1))
            loss = mean_estimate((growth / _spread(truth)).mean(axis=1))
        return Comparison(
            reference=name,
            difference=difference,
            agreement=None,
            loss=loss,
            more={
                "mean_distance": float(distances.mean(dtype=np.float64)),
                "largest_distance": float(distances.max()),
            },
            parts=tuple(
                Part(
                    value, len(column), {"mean_distance": float(column.mean()), "largest_distance": float(column.max())}
                )
                for value, column in zip(self.names, distances.T.astype(np.float64), strict=True)
            ),
        )

    def differences(self, own: Columns, reference: Columns) -> Array:
        """Return the distance, as a mean of fractions of each value's standard deviation."""
        spread = _spread(reference["values"])
        distances: Array = (np.abs(own["values"] - reference["values"]) / spread).mean(axis=1)
        return distances

    def right(self, own: Columns, truth: Array) -> Array:
        """Return that none is exactly right."""
        del truth
        return np.zeros(len(own["values"]), bool)

    def described(self, own: Columns, image: int) -> tuple[tuple[str, str], ...]:
        """Return the values with their names."""
        return tuple((name, f"{v:.4g}") for name, v in zip(self.names, own["values"][image], strict=True))

    def described_truth(self, truth: Array, image: int) -> str:
        """Return the right values."""
        return ", ".join(f"{value:.4g}" for value in truth[image])


def _spread(values: Array) -> Doubles:
    """Return the standard deviation of each column; where all values are equal their size, or 1 if that is 0."""
    wide = values.astype(np.float64)
    spread, size = wide.std(axis=0), np.abs(wide).max(axis=0)
    spread = np.where(spread > 1e-9 * size, spread, size)
    return np.where(spread > 0, spread, 1.0)


def _root_mean(errors: Array) -> float:
    return float(np.sqrt((errors**2).mean()))


def _not_negative(estimate: Estimate) -> Estimate:
    return estimate.within(0.0, float("inf"))
