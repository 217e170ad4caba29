"""Functions of one number, of which integer files hold a table with one entry a level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import OpKind

_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _elu(x: Doubles) -> Doubles:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def _gelu(x: Doubles) -> Doubles:
    values: Doubles = x * (1 + _ERF(x / math.sqrt(2))) / 2
    return values


def _gelu_tanh(x: Doubles) -> Doubles:
    values: Doubles = x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return values


FUNCTIONS: Mapping[OpKind, Callable[[Doubles], Doubles]] = {
    "elu": _elu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "tanh": np.tanh,
}
