"""Integer forms of h-swish, x * relu6(x + 3) / 6 (arXiv 1905.02244, section 5.2).

TFLite's int8 HARD_SWISH leaves XNNPACK (a V3-Small falls into 20 pieces), and ONNX has no integer
HardSwish. Two forms stay inside, both made of ops that every int8 kernel library has:

*twin*: the convolution c that makes x is written twice, as c/6 and as relu6(c + 3), and a
multiplication joins them. The gate then has the clean range [0, 6] with a step of its own,
whatever the range of x is; and since it does not depend on how x is scaled, the channels of x may
be equalized, which no other form allows. It costs the convolution once more.

*shared*: relu6(x + 3) is computed from the quantized x by an addition. Cheap; but the gate has only
as many steps as x has between -3 and 3.

In both, what x is below -3 makes no difference: the gate is 0 there. Integers that saturate at -3
spend no level on it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from mbn_deploy.export.graph import WEIGHTED, Doubles, Graph, Op

GATE_SHIFT = 3.0
GATE_BOUND = 6.0


@dataclass(frozen=True, eq=False)
class Twinned:
    """The rewritten graph, and the floors of the tensors whose lower values make no difference."""

    graph: Graph
    floors: dict[str, Doubles]


def twin_hard_swishes(graph: Graph, only: Collection[str] | None = None) -> Twinned:
    """Rewrite the h-swishes whose output is in `only` (all, if `None`) into the twin form.

    Left alone: an h-swish behind anything but a convolution that nothing else reads.
    """
    chosen = {op.output: op for op in graph.ops if op.kind == "hard_swish" and (only is None or op.output in only)}
    producers = {op.inputs[0]: op.output for op in chosen.values()}
    readers = graph.readers()
    shapes, floors = dict(graph.shapes), {}
    ops: list[Op] = []
    joined: set[str] = set()
    for op in graph.ops:
        result = producers.get(op.output)
        if result is not None and op.kind in WEIGHTED and op.activation == "none" and len(readers[op.output]) == 1:
            value, gate = _twins(op, result)
            ops += [value, gate]
            shapes[value.output] = shapes[gate.output] = shapes[result]
            floors[value.output] = np.full(shapes[result][-1], -GATE_SHIFT / GATE_BOUND)
            joined.add(result)
        elif op.output in joined:
            ops.append(Op("multiply", op.name, (f"{op.output}/sixth", f"{op.output}/gate"), op.output))
        else:
            ops.append(op)
    return Twinned(replace(graph, shapes=shapes).with_ops(ops), floors)


def _twins(conv: Op, result: str) -> tuple[Op, Op]:
    kernel, bias = conv.weights()
    sixth = np.float32(1 / GATE_BOUND)
    value = replace(conv, kernel=kernel * sixth, bias=bias * sixth, output=f"{result}/sixth")
    shifted = bias + np.float32(GATE_SHIFT)
    gate = replace(conv, name=f"{conv.name}/gate", bias=shifted, activation="relu6", output=f"{result}/gate")
    return value, gate
