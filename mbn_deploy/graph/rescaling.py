"""The rescaling of a tensor's channels in a quantized graph, compared with the float graph that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbn_deploy.arrays import Array, Doubles


@dataclass(frozen=True, eq=False)
class Rescaling:
    """The rescaling of a channel: for a value x of the float graph, the quantized one has factor * (x - shift).

    Both arrays have one value a channel, or one for all channels; factors are above 0.
    """

    factor: Doubles
    shift: Doubles

    def scaled(self, factors: Doubles) -> Rescaling:
        """Return this rescaling followed by a multiplication by `factors`."""
        return Rescaling(self.factor * factors, self.shift)

    def lowered(self, constants: Doubles) -> Rescaling:
        """Return this rescaling followed by a subtraction of `constants`."""
        return Rescaling(self.factor, self.shift + constants / self.factor)

    def to_quantized(self, values: Array) -> Array:
        """Return values (..., channels) of the float graph in the scale of the quantized one, as float32."""
        return np.asarray((values - self.shift) * self.factor, np.float32)

    def to_array(self) -> Array:
        """Return a float32 array of two rows, factors and shifts."""
        return np.stack(np.broadcast_arrays(self.factor, self.shift)).astype(np.float32)

    @classmethod
    def from_array(cls, array: Array) -> Rescaling:
        """Read what `to_array` returned; raises `ValueError` for anything else."""
        if array.ndim != 2 or len(array) != 2 or not array.size or not np.isfinite(array).all() or array[0].min() <= 0:
            raise ValueError(f"no factors and shifts of channels: {array.dtype} {array.shape}")
        factor, shift = array.astype(np.float64)
        return cls(factor, shift)


IDENTITY = Rescaling(np.ones(1), np.zeros(1))
