"""Hard-sigmoid and hard-swish, which `keras.applications` builds from additions, ReLU6 and products.

relu6(x + 3) * (1/6)  ->  hard_sigmoid(x)          x * hard_sigmoid(x)  ->  hard_swish(x)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbn_deploy.graph.graph import Graph, Op

_TOLERANCE = 1e-6  # the float32 nearest to 1/6 is 2e-8 off


def recognise(graph: Graph) -> Graph:
    """Return `graph` with these patterns as single ops; the last op's tensor keeps its name."""
    return _hard_swish(_hard_sigmoid(graph))


def _hard_sigmoid(graph: Graph) -> Graph:
    readers, writers = graph.readers(), graph.writers()
    replaced: dict[str, Op] = {}
    gone: set[str] = set()
    for op in graph.ops:
        clipped = writers.get(op.inputs[0])
        shifted = writers.get(clipped.inputs[0]) if clipped is not None else None
        if clipped is None or shifted is None or clipped.kind != "relu6":
            continue
        inner = (clipped.output, shifted.output)
        private = all(len(readers[name]) == 1 for name in inner) and graph.output not in inner
        if private and _is_affine(shifted, 1.0, 3.0) and _is_affine(op, 1.0 / 6.0, 0.0):
            replaced[op.output] = Op("hard_sigmoid", clipped.name, shifted.inputs, op.output)
            gone.update(inner)
    return graph.with_ops(replaced.get(op.output, op) for op in graph.ops if op.output not in gone)


def _is_affine(op: Op, scale: float, offset: float) -> bool:
    if op.kind != "affine" or op.scale is None or op.offset is None:
        return False
    return bool(np.abs(op.scale - scale).max() < _TOLERANCE and np.abs(op.offset - offset).max() < _TOLERANCE)


def _hard_swish(graph: Graph) -> Graph:
    readers, writers = graph.readers(), graph.writers()
    gone: set[str] = set()
    ops = []
    for op in graph.ops:
        gate = _gate(op, writers) if op.kind == "multiply" else None
        if gate is None or len(readers[gate.output]) > 1 or gate.output == graph.output:
            ops.append(op)
            continue
        ops.append(replace(op, kind="hard_swish", inputs=gate.inputs))
        gone.add(gate.output)
    return graph.with_ops(op for op in ops if op.output not in gone)


def _gate(op: Op, writers: dict[str, Op]) -> Op | None:
    """Return the hard-sigmoid of a product whose other factor is the hard-sigmoid's input, or None."""
    for factor, other in (op.inputs, op.inputs[::-1]):
        gate = writers.get(factor)
        if gate is not None and gate.kind == "hard_sigmoid" and gate.inputs == (other,):
            return gate
    return None
