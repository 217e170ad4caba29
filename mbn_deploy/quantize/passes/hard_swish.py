"""Integer forms of h-swish, x * relu6(x + 3) / 6 (arXiv 1905.02244, section 5.2).

TFLite's int8 HARD_SWISH leaves XNNPACK (a V3-Small falls into 20 pieces), and ONNX has no integer
HardSwish. Two forms stay inside, both made of ops that every int8 kernel library has:

*twin*: the convolution c that makes x is written twice, as c/6 and as relu6(c + 3), and a
multiplication joins them. The gate then has the clean range [0, 6] with a step of its own,
whatever the range of x is; and since it does not depend on how x is scaled, the channels of x may
be equalized, which no other form allows. It costs the convolution once more.

*shared*: relu6(x + 3) is computed from the quantized x by an addition, and what reads the product
is divided by 6. Cheap; but the gate has only as many steps as x has between -3 and 3.

In both, what x is below -3 makes no difference: the gate is 0 there. Integers that saturate at -3
spend no level on it.

XNNPACK computes the shared form for all 256 levels when it opens a file, and looks every value up in
that table (seen in ai-edge-litert 2.3): it costs a fifth of the twin's multiplication alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op, Shape
from mbn_deploy.graph.quantized import LEVELS
from mbn_deploy.quantize.ranges import ChannelRange

GATE_SHIFT = 3.0
GATE_BOUND = 6.0
_KEEPS_FACTOR = frozenset({"global_average_pool", "global_max_pool", "average_pool", "max_pool", "pad", "reshape"})


@dataclass(frozen=True, eq=False)
class Lowered:
    """The rewritten graph, and the floors of the tensors whose lower values make no difference."""

    graph: Graph
    floors: dict[str, Doubles]


def pays_twice(graph: Graph, op: Op) -> bool:
    """Whether the twin form of the h-swish `op` is worth its convolution.

    It is where only depthwise convolutions read the result: their weights have a scale a channel and
    absorb any equalization without loss. And where it is cheap: behind a pointwise or first
    convolution, not behind a depthwise one, which int8 kernels run no faster than float ones.
    """
    source = graph.writers().get(op.inputs[0])
    readers = graph.readers()[op.output]
    return (
        source is not None
        and source.kind == "conv"
        and _twin_possible(graph, op)
        and bool(readers)
        and all(reader.kind == "depthwise" for reader in readers)
    )


def pays_twice_in_16_bits(graph: Graph, op: Op) -> bool:
    """The same for activations of 16 bits.

    There TFLite has a fast kernel for convolutions (int32 sums), and reference kernels only for depthwise
    ones and for the ADD of a constant, which takes longer than a pointwise convolution.
    """
    source = graph.writers().get(op.inputs[0])
    return source is not None and source.kind == "conv" and _twin_possible(graph, op)


def shared_noise(source: ChannelRange, result: ChannelRange) -> float:
    """What the shared form loses: the share of a channel's variance that rounding takes, averaged over channels.

    `source` is what went into the h-swish, `result` what came out. All channels of the source share one step s,
    from -3 to the largest value; rounding adds s^2/12 to each, and a channel cannot lose more than all it has.
    """
    step = (max(float(source.high.max()), 0.0) - max(float(source.low.min()), -GATE_SHIFT)) / LEVELS
    variance = np.maximum(result.variance, np.finfo(np.float64).tiny)
    return float(np.minimum(step**2 / 12 / variance, 1.0).mean())


def lower_hard_swishes(
    graph: Graph, twin: Callable[[Graph, Op], bool] = pays_twice, keep: frozenset[str] = frozenset()
) -> Lowered:
    """Every h-swish in integer form: twin where `twin` says so and it is possible, shared elsewhere.

    Those whose output is in `keep` compute in float and stay, and so do those that neither form fits.
    """
    swishes = [op for op in graph.ops if op.kind == "hard_swish" and op.output not in keep]
    possible = {op.output for op in swishes if _twin_possible(graph, op)}
    shareable = {op.output for op in swishes if _shares(graph, op)}
    twins = {op.output for op in swishes if op.output in possible and (twin(graph, op) or op.output not in shareable)}
    rewriting = _Rewriting(graph, twins, shareable - twins)
    for op in graph.ops:
        rewriting.take(op)
    return rewriting.result()


def _twin_possible(graph: Graph, op: Op) -> bool:
    """Whether a linear convolution that nothing else reads makes the h-swish's input."""
    source = graph.writers().get(op.inputs[0])
    if source is None or source.kind not in WEIGHTED or source.activation != "none":
        return False
    return len(graph.readers()[op.inputs[0]]) == 1


def _shares(graph: Graph, op: Op) -> bool:
    """Whether a factor of 6 on the result reaches convolutions only, where it can be taken back."""
    readers = graph.readers()
    waiting = [op.output]
    while waiting:
        name = waiting.pop()
        if name == graph.output:
            return False
        for reader in readers[name]:
            if reader.kind in _KEEPS_FACTOR or (reader.kind == "multiply" and reader.inputs.count(name) == 1):
                waiting.append(reader.output)
            elif reader.kind not in WEIGHTED:
                return False
    return True


@dataclass(eq=False)
class _Rewriting:
    """One pass over the ops of `graph`."""

    graph: Graph
    twins: set[str]
    shared: set[str]
    ops: list[Op] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    floors: dict[str, Doubles] = field(default_factory=dict)
    sixfold: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.shapes.update(self.graph.shapes)
        self._results = {op.inputs[0]: op.output for op in self.graph.ops if op.output in self.twins}

    def take(self, op: Op) -> None:
        op = self._without_factor(op)
        if op.output in self._results:
            self._twin(op, self._results[op.output])
        elif op.output in self.twins:
            self.ops.append(Op("multiply", op.name, (f"{op.output}/sixth", f"{op.output}/gate"), op.output))
        elif op.output in self.shared:
            self._share(op)
        else:
            self.ops.append(op)

    def result(self) -> Lowered:
        return Lowered(replace(self.graph, shapes=self.shapes).with_ops(self.ops), self.floors)

    def _without_factor(self, op: Op) -> Op:
        """The op divided by 6 where it reads something six-fold; what hands values on becomes six-fold itself."""
        if not self.sixfold & set(op.inputs):
            return op
        if op.kind in WEIGHTED:
            return replace(op, kernel=op.weights()[0] * np.float32(1 / GATE_BOUND))
        self.sixfold.add(op.output)
        return op

    def _twin(self, conv: Op, result: str) -> None:
        kernel, bias = conv.weights()
        sixth = np.float32(1 / GATE_BOUND)
        value = replace(conv, kernel=kernel * sixth, bias=bias * sixth, output=f"{result}/sixth")
        shifted = bias + np.float32(GATE_SHIFT)
        gate = replace(conv, name=f"{conv.name}/gate", bias=shifted, activation="relu6", output=f"{result}/gate")
        self.ops += [value, gate]
        self.shapes[value.output] = self.shapes[gate.output] = self.graph.shapes[result]
        self._floor(value.output, -GATE_SHIFT / GATE_BOUND)

    def _share(self, op: Op) -> None:
        source, gate = op.inputs[0], f"{op.output}/gate"
        self.shapes[gate] = self.graph.shapes[op.output]
        shift = np.array([GATE_SHIFT])
        self.ops.append(Op("add_constant", f"{op.name}/gate", (source,), gate, offset=shift, activation="relu6"))
        self.ops.append(Op("multiply", op.name, (source, gate), op.output))
        self.sixfold.add(op.output)
        if len(self.graph.readers()[source]) == 1:
            self._floor(source, -GATE_SHIFT)

    def _floor(self, tensor: str, value: float) -> None:
        self.floors[tensor] = np.full(self.shapes[tensor][-1], value)
