"""Rewrite h-swish, x * relu6(x + 3) / 6 (arXiv 1905.02244, section 5.2), in ops that have integer kernels.

XNNPACK does not take TFLite's int8 HARD_SWISH, so that a V3-Small is split into 20 partitions, and ONNX has no integer
HardSwish. The two forms below consist of ops that every int8 kernel library has:

*Duplicated convolution*: the convolution c that computes x is written twice, as c/6 and as relu6(c + 3), and the two
results are multiplied. The gate then has the clean range [0, 6] and a step of its own, whatever the range of x. Since
the gate does not depend on the scale of x, the channels of x may be equalized, which no other form allows. The cost is
that of the convolution.

*Single convolution*: relu6(x + 3) is computed from the quantized x by an addition, and the weights that read the
product are divided by 6. This is cheap, but the gate has only as many levels as x has between -3 and 3.

In both forms, values of x below -3 make no difference, since the gate is 0 there. The integers saturate at -3 and
spend no levels on them.

XNNPACK computes the second form for all 256 levels when it opens a file and then looks values up in that table (seen
in ai-edge-litert 2.3), which costs a fifth of the multiplication of the first form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op, Shape
from mbn_deploy.graph.quantized import INT8_STEPS
from mbn_deploy.quantize.ranges import ChannelRange

GATE_SHIFT = 3.0
GATE_BOUND = 6.0
_KEEPS_FACTOR = frozenset({"global_average_pool", "global_max_pool", "average_pool", "max_pool", "pad", "reshape"})


@dataclass(frozen=True, eq=False)
class LoweredGraph:
    """The rewritten graph, and what is known of its tensors.

    `floors` has, per channel, a bound below which a tensor's values make no difference. `sixfold` are the tensors
    whose values are six times those in the float graph.
    """

    graph: Graph
    floors: dict[str, Doubles]
    sixfold: frozenset[str]


def duplication_pays(graph: Graph, op: Op) -> bool:
    """Return whether a second convolution before the h-swish `op` is worth its time in int8.

    It is if only depthwise convolutions read the result, whose weights have a scale a channel and absorb any
    equalization without loss, and if it is cheap: a pointwise or first convolution, not a depthwise one, which int8
    kernels run no faster than float kernels do.
    """
    source = graph.writers().get(op.inputs[0])
    readers = graph.readers()[op.output]
    return (
        source is not None
        and source.kind == "conv"
        and _can_duplicate(graph, op)
        and bool(readers)
        and all(reader.kind == "depthwise" for reader in readers)
    )


def duplication_pays_int16(graph: Graph, op: Op) -> bool:
    """Return whether a second convolution before the h-swish `op` is worth its time with activations of 16 bits.

    TFLite has a fast int16 kernel for convolutions (with int32 sums), but only reference kernels for depthwise
    convolutions and for the ADD of a constant, which takes longer than a pointwise convolution.
    """
    source = graph.writers().get(op.inputs[0])
    return source is not None and source.kind == "conv" and _can_duplicate(graph, op)


def single_conv_noise(source: ChannelRange, result: ChannelRange) -> float:
    """Estimate the loss with a single convolution: rounding noise over variance of a channel, averaged over channels.

    `source` are the ranges of the h-swish's input, `result` those of its output. All channels of the source share one
    step s over the range from -3 to the largest value; rounding adds s^2/12 to each channel, which counts as lost
    completely if that is above its variance.
    """
    step = (max(float(source.high.max()), 0.0) - max(float(source.low.min()), -GATE_SHIFT)) / INT8_STEPS
    variance = np.maximum(result.variance, np.finfo(np.float64).tiny)
    return float(np.minimum(step**2 / 12 / variance, 1.0).mean())


def lower_hard_swishes(
    graph: Graph, duplicate: Callable[[Graph, Op], bool] = duplication_pays, keep: frozenset[str] = frozenset()
) -> LoweredGraph:
    """Rewrite every h-swish, with a second convolution where `duplicate` says so and it is possible.

    An h-swish whose output is in `keep` computes in float and stays, and so does one that neither form fits.
    """
    swishes = [op for op in graph.ops if op.kind == "hard_swish" and op.output not in keep]
    single = {op.output for op in swishes if _factor_can_be_undone(graph, op)}
    duplicated = {
        op.output for op in swishes if _can_duplicate(graph, op) and (duplicate(graph, op) or op.output not in single)
    }
    rewriter = _Rewriter(graph, duplicated, single - duplicated)
    for op in graph.ops:
        rewriter.add(op)
    return rewriter.result()


def _can_duplicate(graph: Graph, op: Op) -> bool:
    """Return whether the input of the h-swish comes from a linear convolution that nothing else reads."""
    source = graph.writers().get(op.inputs[0])
    if source is None or source.kind not in WEIGHTED or source.activation != "none":
        return False
    return len(graph.readers()[op.inputs[0]]) == 1


def _factor_can_be_undone(graph: Graph, op: Op) -> bool:
    """Return whether a factor of 6 on the result reaches only convolutions, whose weights can be divided by it."""
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
class _Rewriter:
    """One pass over the ops of `graph`; `duplicated` and `single` are outputs of h-swishes, by form."""

    graph: Graph
    duplicated: set[str]
    single: set[str]
    ops: list[Op] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    floors: dict[str, Doubles] = field(default_factory=dict)
    sixfold: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.shapes.update(self.graph.shapes)
        self._results = {op.inputs[0]: op.output for op in self.graph.ops if op.output in self.duplicated}

    def add(self, op: Op) -> None:
        op = self._without_factor(op)
        if op.output in self._results:
            self._duplicate(op, self._results[op.output])
        elif op.output in self.duplicated:
            self.ops.append(Op("multiply", op.name, (f"{op.output}/sixth", f"{op.output}/gate"), op.output))
        elif op.output in self.single:
            self._add_gate(op)
        else:
            self.ops.append(op)

    def result(self) -> LoweredGraph:
        return LoweredGraph(
            replace(self.graph, shapes=self.shapes).with_ops(self.ops), self.floors, frozenset(self.sixfold)
        )

    def _without_factor(self, op: Op) -> Op:
        """Divide the weights that read a sixfold tensor by 6; the output of another op becomes sixfold itself."""
        if not self.sixfold & set(op.inputs):
            return op
        if op.kind in WEIGHTED:
            return replace(op, kernel=op.weights()[0] * np.float32(1 / GATE_BOUND))
        self.sixfold.add(op.output)
        return op

    def _duplicate(self, conv: Op, result: str) -> None:
        kernel, bias = conv.weights()
        sixth = np.float32(1 / GATE_BOUND)
        value = replace(conv, kernel=kernel * sixth, bias=bias * sixth, output=f"{result}/sixth")
        shifted = bias + np.float32(GATE_SHIFT)
        gate = replace(conv, name=f"{conv.name}/gate", bias=shifted, activation="relu6", output=f"{result}/gate")
        self.ops += [value, gate]
        self.shapes[value.output] = self.shapes[gate.output] = self.graph.shapes[result]
        self._floor(value.output, -GATE_SHIFT / GATE_BOUND)

    def _add_gate(self, op: Op) -> None:
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
