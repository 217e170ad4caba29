"""How far a quantized layer is from the float one: the measures, and the rows of a diagnosis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Doubles, Floats

Flags = npt.NDArray[np.bool_]

MAX_DB = 120.0  # float32 arithmetic is not closer
# Half a level of an 8-bit probability, as in `verify.evaluate`: what lies below cannot be told apart.
LEAST_PROBABILITY = 1 / 512
_TINY = 1e-30


@dataclass(frozen=True)
class LayerError:
    """One tensor that both files have, and the layer that writes it.

    `layer` and `tensor` are Keras names (the tensor carries the last layer merged into it); `operations`
    are what the quantized file computes between this tensor and those compared before it. Signal to
    noise is in dB, errors are root mean squares in steps (`scale`) of the tensor. `..._alone` is with
    exact float inputs, the others as the network runs.
    `effect` is the Kullback-Leibler divergence (nats, mean over images) of the float network's output
    when only this tensor is what it is alone. `saturated_low` and `saturated_high` are shares of values
    that lie beyond the tensor's range by more than half a step. `weight_spread` and `channel_spread` are the
    largest over the median channel: of max |weight| an output channel, and of max |value| a channel.
    `factors` are the smallest and largest by which the file keeps a channel of the float tensor (see
    `factors`): other than 1 where channels were equalized. All is compared up to these factors, and up to
    constants that biases take and give back (`absorb`).
    None stands where something has no meaning: no levels, no weights, an operation that is not known.
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
    """Every layer of a quantized file beside the float one, what hurts most first.

    `divergence` and `agreement` are those of the outputs: KL in nats and the share of images with the same
    top-1. `not_compared` are tensors of the float file that the quantized one has not, or in another form.
    `unknown` are operations of either file that could be run in the interpreter only.
    """

    file: str
    reference: str
    images: int
    divergence: float
    agreement: float
    layers: tuple[LayerError, ...]
    not_compared: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def badness(row: LayerError) -> tuple[float, float]:
    """What a diagnosis is sorted by, the least first: effect on the output, then noise of the layer alone."""
    alone = row.sqnr if row.sqnr_alone is None else row.sqnr_alone
    return (0.0 if row.effect is None else -row.effect, alone)


class ChannelSums:
    """Sums over values q of a tensor and their reference r, per channel, from which signal and noise follow.

    Channels are compared up to factors k (`factors`): noise is r - q / k in the units of the reference,
    q - k r in those of the tensor.
    """

    def __init__(self, channels: int) -> None:
        self.rr, self.qq, self.rq = (np.zeros(channels) for _ in range(3))
        self.largest = np.zeros(channels)
        self.count = 0  # values of all channels

    def add(self, reference: Floats, found: Floats) -> None:
        """Two arrays of one shape (..., channels)."""
        r, q = reference.reshape(-1, self.rr.size), found.reshape(-1, self.rr.size)
        self.rr += (r * r).sum(0, dtype=np.float64)
        self.qq += (q * q).sum(0, dtype=np.float64)
        self.rq += (r * q).sum(0, dtype=np.float64)
        self.largest = np.maximum(self.largest, np.abs(q).max(0, initial=0.0))
        self.count += r.size

    def live(self) -> Flags:
        """Channels in which both had a value, of one sign."""
        return np.asarray((self.rr > _TINY) & (self.rq > 0))

    def ratios(self) -> Doubles:
        """Values over reference a channel, by least squares; where it has none, the median of the others."""
        live = self.live()
        made = np.where(live, self.rq / np.maximum(self.rr, _TINY), 0.0)
        made[~live] = np.median(made[live]) if live.any() else 1.0
        return np.asarray(made)

    def sqnr(self, factors: Doubles) -> float:
        """Signal over noise in dB."""
        noise = np.maximum(self.rr - 2 * self.rq / factors + self.qq / factors**2, 0.0).sum()
        return decibel(float(self.rr.sum()), float(noise))

    def error(self, factors: Doubles) -> float:
        """Root mean square of the noise, in the units of the tensor."""
        noise = np.maximum(self.qq - 2 * factors * self.rq + factors**2 * self.rr, 0.0).sum()
        return float(np.sqrt(noise / max(self.count, 1)))


def decibel(signal: float, noise: float) -> float:
    """Ten times log10 of the ratio, within what float32 can tell."""
    if noise <= 0 or signal <= 0:
        return MAX_DB if noise <= 0 else -MAX_DB
    return float(np.clip(10 * np.log10(signal / noise), -MAX_DB, MAX_DB))


def spread(values: Doubles) -> float | None:
    """Largest over median; channels that are always zero don't count. None if all are."""
    live = values[values > 0]
    return float(live.max() / np.median(live)) if live.size else None


def divergences(expected: Floats, found: Floats, *, independent: bool) -> Doubles:
    """KL divergence of each row's probabilities, (N, classes); `independent` classes are one coin each."""
    p, q = (np.clip(x.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY) for x in (expected, found))
    if independent:
        both = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        return np.asarray(both.sum(-1))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(-1))
