"""A model file as a graph of operations that can be run one by one, to look into a network, not to deploy it.

Values are real numbers in NHWC, whatever types and layout the file uses. The `run` of an operation computes on real
numbers, with the weights that the file holds and without rounding; `QuantParams.round` is what 8 bits make of the
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats
from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.graph import Op, Shape
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.manifest import FileFormat

Run = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, eq=False)
class FileOp:
    """One operation of a file.

    `inputs` are the tensors that depend on the file's input, without constants. `layer` is the Keras layer that does
    the work, as far as the file tells. `run` is None for an operation that this program cannot compute. `kernel`
    holds real weights: (kh, kw, cin, cout), (kh, kw, c, multiplier) of depthwise ops, (cin, cout) of dense ones.
    `moves_only` marks reshapes, which leave values as they are.
    """

    layer: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    run: Run | None = field(repr=False, default=None)
    kernel: Floats | None = field(repr=False, default=None)
    depthwise: bool = False
    moves_only: bool = False

    def columns(self) -> Doubles | None:
        """Return the kernel as (taps and input channels, output channels)."""
        if self.kernel is None:
            return None
        kernel = self.kernel.astype(np.float64)
        outputs = math.prod(kernel.shape[2:]) if self.depthwise else kernel.shape[-1]
        return kernel.reshape(-1, outputs)


@dataclass(frozen=True, eq=False)
class FileGraph:
    """The operations of a model file, in the order in which they run.

    `where` names the file in messages. `shapes` are NHWC with the file's batch axis, `params` the quantization
    parameters of quantized tensors.
    """

    where: str
    format: FileFormat
    input: str
    output: str
    ops: tuple[FileOp, ...]
    shapes: dict[str, Shape]
    params: dict[str, QuantParams]

    def readers(self) -> dict[str, list[FileOp]]:
        """Return the operations that read each tensor."""
        readers: dict[str, list[FileOp]] = {}
        for op in self.ops:
            for name in op.inputs:
                readers.setdefault(name, []).append(op)
        return readers

    def writers(self) -> dict[str, FileOp]:
        """Return the operation that writes each tensor."""
        return {op.output: op for op in self.ops}


def run_of(op: Op) -> Run:
    """Return a function that runs an op of a float graph with its activation. It cannot run reshapes."""

    def run(inputs: Sequence[Any]) -> Any:
        return np.asarray(activated(op, run_op(op, inputs, ())))

    return run


def identity(inputs: Sequence[Any]) -> Any:
    """Return the first input: ops that store a value in another type leave the real number as it is."""
    return inputs[0]


def with_constants(operands: Sequence[Floats | None], run: Run) -> Run:
    """Return `run` with some operands set to constants; None stands for the operands that are not constant."""

    def filled(inputs: Sequence[Any]) -> Any:
        flowing = iter(inputs)
        return run([next(flowing) if constant is None else constant for constant in operands])

    return filled
