"""By which factor a quantized file keeps each channel of a tensor, and how much lower.

Conditioning multiplies whole channels by factors that the weights behind them take back, and lowers them
by constants that the biases behind give back; it leaves no record in the file. But the weights tell: those of
a layer in the quantized file, times the factors of its input, are those of the float file times the factors of
its output, up to rounding, which averages out over a channel's weights. Operations without weights show the
factor by their exact result.
"""

from __future__ import annotations

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.diagnose.file_graph import FileOp
from mbn_deploy.diagnose.layer_errors import ChannelSums, Flags
from mbn_deploy.graph.quantized import QuantParams

SAME = 0.03  # factors that differ less, relatively, are one factor seen through rounding
# What lowering multiplies whole tensors by: nothing, or the 6 of h-swish and hard sigmoid.
_KNOWN = np.array([1.0, 6.0, 1 / 6])
_NEAR = 0.15
_LOOSE, _MOST = 0.25, 0.95
_TINY = 1e-30
_LEAST_SHIFT = 0.5 / 255  # of a tensor's reach: half a step of 8 bits


def weight_factors(op: FileOp, reference: FileOp, inputs: Doubles | None) -> Doubles | None:
    """Output factors over those of the input, (output channels,), by least squares; 0 where weights are all zero.

    `inputs` are the factors of the input's channels. None if the kernels are not of one shape.
    """
    if op.kernel is None or reference.kernel is None or op.kernel.shape != reference.kernel.shape:
        return None
    if op.depthwise != reference.depthwise:
        return None
    expected = reference.kernel.astype(np.float64)
    if inputs is not None and inputs.size == expected.shape[-2]:
        expected = expected / inputs[:, None]
    # Rounding adds the same noise to every weight that is stored: so those are fitted, in their own scale.
    made = (_columns(op.kernel, op) * _columns(expected, op)).sum(0) / np.maximum(
        (_columns(expected, op) ** 2).sum(0), _TINY
    )
    made[made < 0] = 0.0
    live = made > 0
    if live.any() and np.abs(made[live] / np.median(made[live]) - 1).max() < SAME:
        made[live] = _snapped(float(np.median(made[live])))  # nothing was equalized
    return np.asarray(made)


def _columns(kernel: Doubles | Floats, op: FileOp) -> Doubles:
    """(taps and input channels, output channels)."""
    outputs = int(np.prod(kernel.shape[2:])) if op.depthwise else kernel.shape[-1]
    return kernel.astype(np.float64).reshape(-1, outputs)


def _snapped(factor: float) -> float:
    """One factor for a whole tensor, which is one of few: errors of estimation must not add up over layers."""
    nearest = float(_KNOWN[np.argmin(np.abs(np.log(_KNOWN / factor)))])
    return nearest if abs(factor / nearest - 1) < _NEAR else factor


def bias_shift(op: FileOp, reference: FileOp, factors: Doubles, lowered_by: Doubles | None) -> Doubles | None:
    """What a linear layer's biases take off each output channel, (output channels,).

    `factors` are those of its output, `lowered_by` is how low its input is kept. None if it cannot be run.
    """
    if op.kernel is None or op.run is None or reference.run is None:
        return None
    window = op.kernel.shape[:2] if op.kernel.ndim == 4 else ()
    zeros = np.zeros((1, *window, op.kernel.shape[-2]), np.float32)
    wanted = np.asarray(reference.run([zeros])).reshape(-1, factors.size)[0]
    # A padded layer's input is never lowered: any pixel of its result shows the bias.
    given = np.asarray(op.run([zeros if lowered_by is None else (zeros - lowered_by).astype(np.float32)]))
    return np.asarray(_positive(factors) * wanted - given.reshape(-1, factors.size)[0])


def shown_shift(reference: Floats, made: Floats, factors: Doubles, by_bias: Doubles) -> Doubles | None:
    """How far a layer keeps each channel of a linear tensor lower, (channels,); None if its biases do not show it.

    `made` is what the layer makes of exact inputs, without rounding. Biases know of a shift, but hold corrections
    for rounded weights, too; the means do not.
    """
    if reference.min() >= 0 or np.abs(by_bias).max() <= _LEAST_SHIFT * np.ptp(made):  # clipped at 0: never shifted
        return None
    means = (values.reshape(-1, factors.size).mean(0, dtype=np.float64) for values in (reference, made))
    expected, found = means
    return np.asarray(_positive(factors) * expected - found)


def _positive(factors: Doubles) -> Doubles:
    """Factors, with 1 for channels that have none."""
    return np.where(factors > 0, factors, 1.0)


def in_reference(shift: Doubles | None, factors: Doubles | None) -> Doubles | None:
    """A shift in the units of the reference, of which the file keeps each channel times its factor."""
    return shift if shift is None or factors is None else np.asarray(shift / _positive(factors))


class TensorFactors:
    """The factors of one compared tensor; from sums over what the operations make of exact values."""

    def __init__(self, channels: int, *, weighted: bool) -> None:
        self._inside, self._clipped = ChannelSums(channels), ChannelSums(channels)
        self._weighted = weighted
        self.value: Doubles = np.ones(channels)

    def update(
        self,
        reference: Floats,
        made: Floats,
        params: QuantParams | None,
        *,
        by_weights: Doubles | None = None,
        by_input: Doubles | None = None,
    ) -> Doubles:
        """The factors, once more values are known: exact ones, and what comes of exact inputs without rounding.

        What saturates counts only in channels of which nothing else is seen. `by_weights` are the factors of
        the last layer, if there is one; `by_input` those of what the operations read: they stand in for
        channels that are always zero, whose factor the weights behind still carry.
        """
        if params is None:
            self._inside.add(reference, made)
        else:
            low, high = params.range
            inside = (made > low) & (made < high)
            self._inside.add(np.where(inside, reference, 0), np.where(inside, made, 0))
            self._clipped.add(reference, params.saturate(made))
        fitted, seen = self._fitted()
        if by_weights is not None and by_weights.size == fitted.size and (by_weights > 0).any():
            self.value = _joined(fitted, seen, by_weights)
        elif self._weighted and self._about_one(fitted):
            self.value = np.ones(fitted.size)
        elif by_input is not None and by_input.size == fitted.size and seen.any():
            self.value = np.where(seen, fitted, by_input * np.median(fitted[seen] / by_input[seen]))
        else:
            self.value = fitted
        return self.value

    def _fitted(self) -> tuple[Doubles, Flags]:
        """Factors by the values, and where there were any; elsewhere the median of the others."""
        inside, clipped = self._inside.live(), self._clipped.live()
        made = np.where(inside, self._inside.ratios(), self._clipped.ratios())
        seen = inside | clipped
        made[~seen] = np.median(made[seen]) if seen.any() else 1.0
        return made, seen

    def _about_one(self, fitted: Doubles) -> bool:
        power = self._inside.rr + self._clipped.rr
        near = power[np.abs(fitted - 1) < _LOOSE].sum()
        return bool(abs(np.median(fitted) - 1) < _NEAR and near >= _MOST * power.sum())


def _joined(fitted: Doubles, seen: Flags, by_weights: Doubles) -> Doubles:
    """Factors by weights times the one factor that lowering put on the whole tensor."""
    both = seen & (by_weights > 0)
    common = _snapped(float(np.median(fitted[both] / by_weights[both]))) if both.any() else 1.0
    return np.where(by_weights > 0, common * by_weights, fitted)
