"""Predict the noise that rounding leaves behind a group of channels, for factors that these channels might get.

Rounding to a step s adds noise of power s^2/12 to a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Op
from mbn_deploy.graph.quantized import WEIGHT_MAX
from mbn_deploy.quantize.channel_groups import ChannelGroup
from mbn_deploy.quantize.integers import Granularity
from mbn_deploy.quantize.ranges import CalibratedGraph

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class _Reader:
    """The values that the noise in a weighted op's output depends on, computed once for all candidate factors.

    `squares` (C,) are the summed squares of the weights that read each channel, `largest` (C, outputs) the largest
    weight between a channel and an output, and `taps` is the number of kernel positions.
    """

    op: Op
    squares: Doubles
    largest: Doubles
    taps: int

    @classmethod
    def of(cls, op: Op, channels: int) -> _Reader:
        columns = weight_columns(op, channels)
        return cls(op, (columns**2).sum((0, 2)), np.abs(columns).max(0), columns.shape[0])


@dataclass(frozen=True, eq=False)
class RescalingNoise:
    """The noise in the outputs of the ops that read a group of channels, as a function of the channels' factors.

    `steps` is the number of quantization steps between the ends of an activation's range. `written` has the largest
    weight of each output channel, by the output of the op that writes it.
    """

    state: CalibratedGraph
    group: ChannelGroup
    granularity: Granularity
    steps: int
    readers: list[_Reader]
    written: dict[str, Doubles]

    @classmethod
    def of(
        cls, state: CalibratedGraph, group: ChannelGroup, readers: list[Op], granularity: Granularity, steps: int
    ) -> RescalingNoise:
        """Prepare the prediction for the weighted ops `readers` that read tensors of `group`."""
        writers = [op for op in state.graph.ops if op.kind in WEIGHTED and op.output in group.tensors]
        return cls(
            state=state,
            group=group,
            granularity=granularity,
            steps=steps,
            readers=[_Reader.of(op, group.channels) for op in readers],
            written={op.output: largest_written(op) for op in writers},
        )

    def relative(self, factors: Doubles) -> float:
        """Return noise power over signal power, summed over the readers, for `factors` (C,).

        An activation's step follows from the largest scaled range, a weight's step from the largest scaled weight
        that shares its scale.
        """
        return sum(self._of_reader(reader, factors) for reader in self.readers)

    def _of_reader(self, reader: _Reader, factors: Doubles) -> float:
        seen = self.state.ranges[reader.op.inputs[0]]
        noise = (reader.squares / factors**2 * self.in_values(reader.op.inputs[0], factors)).sum()
        # Bias correction removes the mean of a weight's error times its input, so that the variance counts.
        inputs = reader.taps * float((seen.variance * factors**2).sum())
        outputs = reader.largest.shape[1]
        if self.granularity == "per-tensor":
            step = float((reader.largest.max(1) / factors).max()) / WEIGHT_MAX
            noise += step**2 / 12 * inputs * outputs
        elif reader.op.kind != "depthwise":  # depthwise weights with a scale a channel round alike with any factor
            steps = (reader.largest / factors[:, None]).max(0) / WEIGHT_MAX
            noise += float((steps**2).sum()) / 12 * inputs
        return float(noise / max(float((reader.squares * seen.power).sum()), _TINY))

    def in_values(self, name: str, factors: Doubles) -> Doubles:
        """Return the noise power in each channel of tensor `name`, of its own rounding and of earlier tensors'."""
        low, high = self.state.useful(name)
        step = ((factors * high).max() - (factors * low).min()) / self.steps
        noise = np.full(self.group.channels, step**2 / 12)
        writer = self.state.writers.get(name)
        if writer is None:
            return noise
        if writer.kind in WEIGHTED:
            return noise + self.of_weights(writer, factors)
        for at, source in enumerate(writer.inputs):
            if source not in self.group.tensors:
                continue
            before = self.in_values(source, factors)
            if writer.kind == "global_average_pool":  # errors of many positions cancel
                _, height, width, _ = self.state.graph.shapes[source]
                before = before / (height * width)
            elif writer.kind == "multiply":
                before = before * self.state.ranges[writer.inputs[1 - at]].power
            noise = noise + before
        return noise

    def of_weights(self, op: Op, factors: Doubles) -> Doubles | float:
        """Return the noise power that the rounded weights of `op` leave in each channel that it writes.

        It is 0 with a scale a channel, since the factors then do not change how weights are rounded.
        """
        if self.granularity == "per-channel":
            return 0.0
        seen = self.state.ranges.get(op.inputs[0])
        kernel = op.weights()[0]
        step = float((self.written[op.output] * factors).max()) / WEIGHT_MAX
        taps = kernel[..., 0].size if op.kind != "depthwise" else kernel.shape[0] * kernel.shape[1]
        if seen is None:  # the picture, whose values are of the order of 1
            return step**2 / 12 * taps
        if op.kind == "depthwise":
            return step**2 / 12 * taps * seen.variance
        return step**2 / 12 * taps * float(seen.variance.mean())


def weight_columns(op: Op, channels: int) -> Doubles:
    """Return the kernel of `op`, which reads so many channels, as (taps, input channels, outputs)."""
    return op.weights()[0].astype(np.float64).reshape(-1, channels, op.weights()[0].shape[-1])


def largest_written(op: Op) -> Doubles:
    """Return the largest absolute weight of each output channel."""
    kernel, bias = op.weights()
    largest: Doubles = np.abs(kernel).reshape(-1, bias.size).max(0).astype(np.float64)
    return largest
