"""Give each channel of a ReLU6 a bound of its own, so that its channels can be scaled like those of a ReLU.

A factor k on a channel makes its bound 6k. Weights with one scale for all channels need such factors. There are two
steps, before and after equalization:

`split_relu6` replaces a ReLU6 by a ReLU and a minimum with one bound a channel, 6 at first. Equalization scales the
bounds with the channels.

`fuse_bounds` expresses the minimum by saturation. With m the largest bound of the tensor and d = m - b,
min(relu(z), b) = relu(clip(z + d, 0, m) - d). The shift by d goes into the bias of the convolution, the saturation of
integers costs nothing, and an addition of constants on the same grid of integers shifts back exactly. Where no channel
has a lower bound than the tensor the addition is left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.graph.graph import WEIGHTED, Graph, Op
from mbn_deploy.graph.quantized import INT8_STEPS
from mbn_deploy.quantize.ranges import CalibratedGraph

BOUND = 6.0
_KEEPS_SCALE = frozenset({"global_average_pool", "average_pool", "max_pool", "reshape"})


def split_relu6(graph: Graph, keep: frozenset[str] = frozenset()) -> Graph:
    """Split every ReLU6 into ReLU and minimum, but not those in `keep` and those that cannot be fused again later."""
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
        ops.append(Op("bound", f"{op.name}/bound", (inner,), op.output, offset=bounds))
    return replace(graph, ops=tuple(ops), shapes=shapes)


def fuse_bounds(state: CalibratedGraph, steps: int = INT8_STEPS) -> CalibratedGraph:
    """Replace every minimum by saturation at the last of `steps` quantization steps above 0.

    The tensors that carry its values are then in units of their largest bound.
    """
    for op in state.graph.ops:
        if op.kind == "bound":
            state = _fuse_bound(state, op, steps)
    return state


def _fuse_bound(state: CalibratedGraph, op: Op, steps: int) -> CalibratedGraph:
    graph = state.graph
    source = graph.writers()[op.inputs[0]]
    bounds = _bounds(op)
    reached = np.minimum(state.ranges[source.output].high, bounds)
    most = float(reached.max()) if reached.max() > 0 else 1.0
    lowered_by = np.rint(np.maximum(most - bounds, 0.0) / most * steps)
    shift = lowered_by / steps
    kernel, bias = source.weights()
    scaled = replace(
        source,
        kernel=(kernel / most).astype(np.float32),
        bias=(bias / most + shift).astype(np.float32),
        activation="unit",
        output=source.output if lowered_by.any() else op.output,
    )
    fused = [scaled]
    if lowered_by.any():
        fused.append(replace(op, kind="add_constant", inputs=(source.output,), offset=-shift, activation="relu"))
    readers = _readers_behind(graph, op.output) or []
    rescaled = {r.output: replace(r, kernel=(r.weights()[0] * most).astype(np.float32)) for r in readers}
    ops = []
    for old in graph.ops:
        if old is op:
            ops += fused
        elif old is not source:
            ops.append(rescaled.get(old.output, old))
    return state.rescaled(graph.with_ops(ops), _carriers(graph, op.output), np.array([1 / most]))


def _bounds(op: Op) -> Doubles:
    if op.offset is None:
        raise ValueError(f"op {op.name!r} ({op.kind}) has no bounds")
    return op.offset


def _carriers(graph: Graph, name: str) -> set[str]:
    """Return the tensor and those to which pooling and reshapes carry its values."""
    carriers, readers = {name}, graph.readers()
    waiting = [name]
    while waiting:
        for reader in readers[waiting.pop()]:
            if reader.kind in _KEEPS_SCALE:
                carriers.add(reader.output)
                waiting.append(reader.output)
    return carriers


def _readers_behind(graph: Graph, name: str) -> list[Op] | None:
    """Return the convolutions that the tensor's values reach, None if they reach anything else."""
    readers = graph.readers()
    carriers = _carriers(graph, name)
    reached = [reader for tensor in carriers for reader in readers[tensor] if reader.output not in carriers]
    if graph.output in carriers or any(reader.kind not in WEIGHTED for reader in reached):
        return None
    return reached
