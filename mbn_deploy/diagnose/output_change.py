"""How much the outputs of two files differ on each image, measured by what the outputs mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbn_deploy.answers import Answers, Meaning
from mbn_deploy.arrays import Array, Doubles, Floats
from mbn_deploy.diagnose.layer_errors import divergences
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.decoding import LABEL_THRESHOLD, to_answers

# What the difference of two outputs is, by what they mean.
UNITS: dict[Meaning, str] = {
    "classes": "nats",
    "labels": "nats",
    "binary": "nats",
    "values": "RMS of the values' difference",
    "embedding": "1 - cosine",
}


@dataclass(frozen=True)
class OutputChange:
    """Compares real outputs (N, outputs) that mean `answers`."""

    answers: Answers

    def sizes(self, expected: Floats, given: Floats) -> Doubles:
        """Return the difference of each row, in the unit of `UNITS`.

        It is the Kullback-Leibler divergence of probabilities, the root mean square difference of values, and one minus
        the cosine of feature vectors.
        """
        meaning = self.answers.meaning
        if meaning == "values":
            return np.asarray(np.sqrt(np.square(expected.astype(np.float64) - given).mean(1)))
        if meaning == "embedding":
            return 1 - _cosines(expected.astype(np.float64), given.astype(np.float64))
        independent = meaning != "classes" or self.answers.scores == "sigmoid"
        return divergences(self._real(expected), self._real(given), independent=independent)

    def same(self, expected: Floats, given: Floats) -> npt.NDArray[np.bool_] | None:
        """Tell for each row whether class, decision or labels are the same; None for values and embeddings."""
        if not self.answers.are_scores:
            return None
        if self.answers.meaning == "classes":
            return np.asarray(expected.argmax(1) == given.argmax(1))
        decided = [self._real(rows) > LABEL_THRESHOLD for rows in (expected, given)]
        return np.asarray((decided[0] == decided[1]).all(1))

    def _real(self, rows: Floats) -> Floats:
        return to_answers(rows, TensorInfo("outputs", rows.shape, "float32"), self.answers)


def _cosines(a: Array, b: Array) -> Doubles:
    """Return the cosine of each pair of rows; 1 for two rows of zeros, 0 for one."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(1) & ~b.any(1)
    return np.where(both_zero, 1.0, (a * b).sum(1) / np.where(lengths > 0, lengths, 1.0))
