"""ReLU6 whose channels have bounds of their own, so that they may be scaled like those of a ReLU.

A factor k on a channel makes its bound 6k, and per-tensor weights need such factors. Two steps:

*free*: ReLU6 becomes ReLU and a minimum with one bound a channel, 6 at first; equalization scales
the bounds with the channels.

*bind*: in integers, min(relu(z), b) is a saturation shifted by what a channel's bound lies below
the tensor's, and shifted back: clip(z + d, 0, m) - d, clipped at 0, with d = m - b. The shift is in
the convolution's bias, its saturation is free, and an addition of constants goes back on the same
grid of integers, exactly. Where no channel reaches a bound of its own the addition is left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import LEVELS
from mbn_deploy.quantize.ranges import Calibrated

BOUND = 6.0
_HANDS_ON = frozenset({"global_average_pool", "average_pool", "max_pool", "reshape"})


def free_bounds(graph: Graph, keep: frozenset[str] = frozenset()) -> Graph:
    """`graph` with every ReLU6 as ReLU and minimum, but for those in `keep` and those that cannot be bound later."""
    shapes = dict(graph.shapes)
    ops: list[Op] = []
    for op in graph.ops:
        free = op.kind in WEIGHTED and op.activation == "relu6" and op.output not in keep
        if not free or _readers_behind(graph, op.output) is None:
            ops.append(op)
            continue
        inner = f"{op.output}/unbounded"
        shapes[inner] = shapes[op.output]
        bounds = np.full(shapes[op.output][-1], BOUND)
        ops.append(replace(op, activation="relu", output=inner))
        ops.append(Op("minimum", f"{op.name}/bound", (inner,), op.output, offset=bounds))
    return replace(graph, ops=tuple(ops), shapes=shapes)


def bind(state: Calibrated, levels: int = LEVELS) -> Calibrated:
    """Every minimum as the saturation of integers, `levels` steps above 0.

    Tensors behind are in units of their largest bound.
    """
    for op in state.graph.ops:
        if op.kind == "minimum":
            state = _bound(state, op, levels)
    return state


def _bound(state: Calibrated, op: Op, levels: int) -> Calibrated:
    graph = state.graph
    source = graph.writers()[op.inputs[0]]
    bounds = _offset(op)
    reached = np.minimum(state.ranges[source.output].high, bounds)
    most = float(reached.max()) if reached.max() > 0 else 1.0
    steps = np.rint(np.maximum(most - bounds, 0.0) / most * levels)
    shift = steps / levels
    kernel, bias = source.weights()
    scaled = replace(
        source,
        kernel=(kernel / most).astype(np.float32),
        bias=(bias / most + shift).astype(np.float32),
        activation="unit",
        output=source.output if steps.any() else op.output,
    )
    made = [scaled]
    if steps.any():
        back = replace(op, kind="add_constant", inputs=(source.output,), offset=-shift, activation="relu")
        made.append(back)
    readers = _readers_behind(graph, op.output) or []
    wider = {r.output: replace(r, kernel=(r.weights()[0] * most).astype(np.float32)) for r in readers}
    ops = []
    for old in graph.ops:
        if old is op:
            ops += made
        elif old is not source:
            ops.append(wider.get(old.output, old))
    ranges = {
        n: r.scaled(np.full(r.low.size, 1 / most)) if n in _behind(graph, op.output) else r
        for n, r in state.ranges.items()
    }
    return replace(state, graph=graph.with_ops(ops), ranges=ranges)


def _offset(op: Op) -> Doubles:
    if op.offset is None:
        raise ValueError(f"op {op.name!r} ({op.kind}) has no bounds")
    return op.offset


def _behind(graph: Graph, name: str) -> set[str]:
    """The tensor and those that carry its values on to convolutions."""
    found, readers = {name}, graph.readers()
    waiting = [name]
    while waiting:
        for reader in readers[waiting.pop()]:
            if reader.kind in _HANDS_ON:
                found.add(reader.output)
                waiting.append(reader.output)
    return found


def _readers_behind(graph: Graph, name: str) -> list[Op] | None:
    """The convolutions that the tensor's values reach; `None` if they reach anything else."""
    readers = graph.readers()
    behind = _behind(graph, name)
    reached = [reader for tensor in behind for reader in readers[tensor] if reader.output not in behind]
    if graph.output in behind or any(reader.kind not in WEIGHTED for reader in reached):
        return None
    return reached
