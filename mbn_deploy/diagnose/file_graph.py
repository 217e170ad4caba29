"""A model file as operations that can be run one by one: for looking into a network, not for deploying it.

Values are real numbers in NHWC, whatever the file's types and layout. An op's `run` computes without
rounding what the op computes on real numbers with the weights that the file holds; `Levels.rounded` is what
8 bits make of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.graph import Op, Shape
from mbn_deploy.manifest import FileFormat

Reals = npt.NDArray[np.float32]
Run = Callable[[Sequence[Any]], Any]
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


@dataclass(frozen=True)
class Levels:
    """real = scale * (q - zero_point), for q from `first` to `last`."""

    scale: float
    zero_point: int
    first: int
    last: int
    dtype: str

    @classmethod
    def of(cls, scale: float, zero_point: int, dtype: str) -> Levels:
        """All levels of the type."""
        return cls(scale, zero_point, *RANGES[dtype], dtype)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value."""
        return self.scale * (self.first - self.zero_point), self.scale * (self.last - self.zero_point)

    def saturated(self, values: Any) -> Reals:
        """`values` within the range: in integer files that is often what stands for an activation."""
        return np.asarray(np.clip(np.asarray(values), *self.range), np.float32)

    def rounded(self, values: Any) -> Reals:
        """The real values that stand for `values` once they went through the levels."""
        levels = np.clip(np.rint(np.asarray(values) / self.scale) + self.zero_point, self.first, self.last)
        return np.asarray((levels - self.zero_point) * np.float32(self.scale), np.float32)

    def real(self, integers: npt.NDArray[Any]) -> Reals:
        """What integers of the file stand for."""
        return np.asarray((integers.astype(np.int32) - self.zero_point) * np.float32(self.scale), np.float32)


@dataclass(frozen=True, eq=False)
class StoredOp:
    """One operation of a file. `inputs` are the tensors that flow, not constants.

    `layer` is the Keras layer that does the work, as far as the file tells. `run` is None for an
    operation that this program does not know. `kernel` has the real weights: (kh, kw, cin, cout),
    (kh, kw, c, multiplier) of depthwise ones, (cin, cout) of dense ones.
    """

    layer: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    run: Run | None = field(repr=False, default=None)
    kernel: Reals | None = field(repr=False, default=None)
    depthwise: bool = False
    moves_only: bool = False  # reshapes: values stay as they are

    def columns(self) -> npt.NDArray[np.float64] | None:
        """The kernel as (taps and input channels, output channels)."""
        if self.kernel is None:
            return None
        wide = self.kernel.astype(np.float64)
        return wide.reshape(-1, wide.shape[-1]) if not self.depthwise else wide.reshape(-1, math.prod(wide.shape[2:]))


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """The operations of a file in order.

    `shapes` are NHWC, with the file's batch axis; `levels` are those of quantized tensors.
    """

    where: str
    format: FileFormat
    input: str
    output: str
    ops: tuple[StoredOp, ...]
    shapes: dict[str, Shape]
    levels: dict[str, Levels]

    def readers(self) -> dict[str, list[StoredOp]]:
        """The ops that read each tensor."""
        found: dict[str, list[StoredOp]] = {}
        for op in self.ops:
            for name in op.inputs:
                found.setdefault(name, []).append(op)
        return found

    def writers(self) -> dict[str, StoredOp]:
        """The op that writes each tensor."""
        return {op.output: op for op in self.ops}


def run_of(op: Op) -> Run:
    """How an op of a float graph is run, activation included; a reshape gives its own shape."""

    def run(inputs: Sequence[Any]) -> Any:
        return np.asarray(activated(op, run_op(op, inputs, ())))

    return run


def identity(inputs: Sequence[Any]) -> Any:
    """For ops that change how a value is stored and not what it is."""
    return inputs[0]


def with_constants(operands: Sequence[Reals | None], run: Run) -> Run:
    """`run` for an op some of whose operands are constants; `None` stands for those that flow."""

    def filled(inputs: Sequence[Any]) -> Any:
        flowing = iter(inputs)
        return run([next(flowing) if constant is None else constant for constant in operands])

    return filled
