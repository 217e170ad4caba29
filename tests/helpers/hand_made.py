"""Ranges and ops that are small enough to compute by hand."""

import numpy as np

from mbn_deploy.graph.graph import Op
from mbn_deploy.quantize.ranges import ChannelRange


def seen(low, high, mean=None, power=None):
    low, high = np.array(low, float), np.array(high, float)
    mean = (low + high) / 2 if mean is None else np.array(mean, float)
    return ChannelRange(low, high, mean, high**2 if power is None else np.array(power, float))


def rounding(step):
    """Return the mean square error of rounding to a step."""
    return step**2 / 12


def weighted(kind, name, source, kernel, *, bias=None, activation="none"):
    kernel = np.array(kernel, np.float32)
    outputs = kernel.shape[-1] if kind == "conv" else kernel.shape[2] * kernel.shape[3]
    bias = np.zeros(outputs, np.float32) if bias is None else np.array(bias, np.float32)
    return Op(kind, name, (source,), name, kernel=kernel, bias=bias, pads=(0,) * 4, activation=activation)
