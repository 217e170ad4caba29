"""Measures of the error of a quantized layer, and the rows of a diagnosis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats

MAX_DB = 120.0  # float32 arithmetic is not more exact
# Half a level of an 8-bit probability, as in `verify.evaluate`: smaller ones cannot be told apart.
LEAST_PROBABILITY = 1 / 512


@dataclass(frozen=True)
class LayerError:
    """One tensor that both files have, and the layer that writes it. The fields are also keys of the JSON output.

    A field is None if it has no meaning: the tensor is not quantized, the layer has no weights, or one of its
    operations cannot be run alone. "Alone" means with exact float inputs; the other errors are those of the network as
    it runs. Values are compared after undoing the rescaling of channels by equalization and absorption.

    Attributes:
        layer: Keras name of the layer.
        tensor: Keras name of the last layer merged into the tensor.
        operations: what the quantized file computes between the compared tensors before and this one.
        dtype: type of the tensor in the quantized file.
        scale: its quantization step.
        zero_point: its zero point.
        effect: how much the float network's output differs (`Diagnosis.unit`, mean over images) if only this tensor is
            replaced by its quantized version, computed alone.
        sqnr_alone: signal to quantization noise ratio in dB, alone.
        error_alone: root mean square error in quantization steps, alone.
        sqnr: signal to quantization noise ratio in dB.
        error: root mean square error in quantization steps.
        saturated_low: share of values that lie below the tensor's range by more than half a step.
        saturated_high: share of values that lie above it by more than half a step.
        weight_spread: largest weight of an output channel, the largest over the median of all channels.
        channel_spread: largest value of a channel, the largest over the median of all channels.
        factors: the smallest and the largest factor by which equalization multiplied a channel.
    """

    layer: str
    tensor: str
    operations: tuple[str, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    effect: float | None
    sqnr_alone: float | None
    error_alone: float | None
    sqnr: float
    error: float | None
    saturated_low: float | None
    saturated_high: float | None
    weight_spread: float | None
    channel_spread: float | None
    factors: tuple[float, float]


@dataclass(frozen=True)
class Diagnosis:
    """Every layer of a quantized file compared with the float file, those that hurt most first.

    Attributes:
        file: the quantized file.
        reference: the float file.
        images: how many images were compared.
        divergence: how much the outputs differ, mean over images, in `unit`.
        agreement: share of images with the same top-1 class, decision or labels; None for values and embeddings.
        layers: the compared tensors.
        not_compared: tensors of the float file that the quantized file lacks or has in another form.
        unknown: kinds of operations that could be run in the interpreter only.
        unit: of `divergence` and effects: nats (Kullback-Leibler divergence) for probabilities, else see
            `diagnose.output_change`.
    """

    file: str
    reference: str
    images: int
    divergence: float
    agreement: float | None
    layers: tuple[LayerError, ...]
    not_compared: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unit: str = "nats"

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain JSON values."""
        return asdict(self)


def badness(row: LayerError) -> tuple[float, float]:
    """Return the key by which layers are sorted, worst first: effect on the output, then noise of the layer alone."""
    alone = row.sqnr if row.sqnr_alone is None else row.sqnr_alone
    return (0.0 if row.effect is None else -row.effect, alone)


class ChannelSums:
    """Sums per channel over values q of a tensor and reference values r, from which signal and noise follow.

    A channel of q may be multiplied by a factor k: the noise is r - q / k in the unit of the reference, and q - k r in
    the unit of the tensor.
    """

    def __init__(self, channels: int) -> None:
        self.rr, self.qq, self.rq = (np.zeros(channels) for _ in range(3))
        self.largest = np.zeros(channels)
        self.count = 0  # values of all channels

    def add(self, reference: Floats, values: Floats) -> None:
        """Add two arrays of one shape (..., channels)."""
        r, q = reference.reshape(-1, self.rr.size), values.reshape(-1, self.rr.size)
        self.rr += (r * r).sum(0, dtype=np.float64)
        self.qq += (q * q).sum(0, dtype=np.float64)
        self.rq += (r * q).sum(0, dtype=np.float64)
        self.largest = np.maximum(self.largest, np.abs(q).max(0, initial=0.0))
        self.count += r.size

    def sqnr(self, factors: Doubles) -> float:
        """Return signal over noise in dB, for channels multiplied by `factors`."""
        noise = np.maximum(self.rr - 2 * self.rq / factors + self.qq / factors**2, 0.0).sum()
        return decibel(float(self.rr.sum()), float(noise))

    def error(self, factors: Doubles) -> float:
        """Return the root mean square of the noise in the unit of the tensor."""
        noise = np.maximum(self.qq - 2 * factors * self.rq + factors**2 * self.rr, 0.0).sum()
        return float(np.sqrt(noise / max(self.count, 1)))


def decibel(signal: float, noise: float) -> float:
    """Return the ratio in dB, limited to what float32 arithmetic can resolve."""
    if noise <= 0 or signal <= 0:
        return MAX_DB if noise <= 0 else -MAX_DB
    return float(np.clip(10 * np.log10(signal / noise), -MAX_DB, MAX_DB))


def spread(values: Doubles) -> float | None:
    """Return the largest over the median value without zeros, None if all are zero."""
    live = values[values > 0]
    return float(live.max() / np.median(live)) if live.size else None


def divergences(expected: Floats, given: Floats, *, independent: bool) -> Doubles:
    """Return the Kullback-Leibler divergence of each row of probabilities (N, classes).

    With `independent`, every class is a yes-or-no question of its own (sigmoid outputs).
    """
    p, q = (np.clip(x.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY) for x in (expected, given))
    if independent:
        both = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        return np.asarray(both.sum(-1))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(-1))
