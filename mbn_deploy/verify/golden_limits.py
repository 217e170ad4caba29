"""Checks that the tolerances in golden.npz are finite, and of a size that the file's own data allow.

A tolerance that is too large lets every answer pass. The export derives it from the float graph (see `tolerance`),
which a bundle does not contain; the size of its files bounds it.
"""

from __future__ import annotations

import math

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.formats.own_words import end_quantization
from mbn_deploy.verify.golden import Golden
from mbn_deploy.verify.tolerance import relative_tolerance, tolerance

_ROUNDING = 1.01  # two tolerances of the same formula differ by less
DYNAMIC_SHARE = 0.5  # of the outputs' range: the largest difference of dynamic-range kernels that is believed


def check_limits(golden: Golden, entry: ModelFile, data: bytes, answers: Answers, where: str) -> None:
    """Check a file's golden outputs and tolerances.

    Args:
        golden: the golden vectors, with outputs of this file.
        entry: the file.
        data: its bytes.
        answers: what its outputs mean.
        where: the file of golden vectors.

    Raises:
        InputError: names `where`, the file and the tolerance that is not finite or too large.
    """
    outputs, origin = golden.outputs[entry.path], golden.provenance.get(entry.path)
    if not np.isfinite(outputs).all():
        raise InputError(f"{where}: the outputs of {entry.path} in it are not finite")
    same, other = _largest(outputs, entry, data, answers)
    limits = [("tolerance", golden.tolerances[entry.path], same)]
    if origin is not None:
        relative = max(relative_tolerance([entry.size]), 1 / 256 if entry.precision == "dynamic" else 0.0)
        limits += [
            ("tolerance of other kernels", origin.cross_kernel_tolerance, other),
            ("relative tolerance", origin.relative_tolerance, relative),
        ]
    for what, value, largest in limits:
        if not 0 <= value <= largest * _ROUNDING:
            raise InputError(
                f"{where}: the {what} of {entry.path} is {value:g}; for such a file it is at most {largest:.2g}. "
                "Export again, or copy the bundle again"
            )


def _largest(outputs: Array, entry: ModelFile, data: bytes, answers: Answers) -> tuple[float, float]:
    """Return the largest plausible tolerances for the kernels of the export, and for others."""
    # Every product of a sum has a weight of its own, of one byte or more: no sum has more products than the file bytes.
    probabilities = answers.are_probabilities
    level = end_quantization(data, entry.format, entry.path).level if entry.precision.startswith("int") else None
    if entry.precision.startswith("int") and level is None and outputs.dtype.kind == "f":
        level = _range(outputs, probabilities=probabilities) / 128  # float layers at the end of a mixed file
    same = tolerance(outputs, entry.precision, level, [entry.size], probabilities=probabilities)
    if entry.precision != "dynamic":
        return same, same
    return same, max(same, DYNAMIC_SHARE * _range(outputs, probabilities=probabilities))


def _range(outputs: Array, *, probabilities: bool) -> float:
    if probabilities:
        return 1.0
    largest = float(np.abs(outputs).max(initial=0.0))
    return 2 * largest if math.isfinite(largest) else 0.0
