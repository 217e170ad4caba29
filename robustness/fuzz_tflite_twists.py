"""Twists of a .tflite model: each changes one thing of a valid model so that it stays well formed and means nonsense.

A twist gets the schema's ModelT, the schema, and a random number generator; what it picks may be any subgraph's.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from fuzz_tflite_op_twists import (
    custom_options,
    ends,
    external,
    left_out,
    metadata,
    no_options,
    no_output,
    operation,
    option,
    order,
    other_input,
    other_output,
    reference,
    signatures,
    subgraphs,
    surplus,
    unnamed,
)
from fuzz_tflite_picks import Rng, Twist
from fuzz_tflite_tensor_twists import (
    blockwise,
    buffer_elsewhere,
    content,
    large,
    length,
    number,
    quantized,
    rank,
    scale,
    scales,
    shape,
    shared,
    signature,
    sparse,
    type_,
    types,
    unscaled,
    variable,
)


def twist(model: Any, schema: Any, rng: Rng) -> str:
    """Apply one twist, likelier ones more often; return its name."""
    chosen = rng.choices(list(TWISTS), weights=list(TWISTS.values()))[0]
    chosen(model, schema, rng)
    return chosen.__name__


TWISTS: dict[Twist, float] = {
    length: 3, rank: 2, shape: 2, signature: 1, type_: 2, types: 2, quantized: 3, scale: 3, scales: 2, unscaled: 1,
    blockwise: 0.5, number: 5, large: 1.5, content: 1, buffer_elsewhere: 0.3, shared: 1.5, variable: 1, left_out: 1.5,
    surplus: 1, no_output: 1, other_input: 1.5, other_output: 2, reference: 0.7, option: 5, no_options: 0.7,
    operation: 2, sparse: 1, order: 0.4, ends: 0.7, signatures: 0.4, metadata: 0.4, unnamed: 0.3, external: 0.3,
    subgraphs: 1, custom_options: 0.5,
}  # fmt: skip


def chain(made: Any, rng: Rng) -> None:
    """Make a deep chain of operations between the picture and the scores."""
    graph = made.model.subgraphs[0]
    names = ("ABS", "RELU", "NEG", "TANH", "ADD", "CONCATENATION", "EXPAND_DIMS")
    name, last = rng.choice(names), graph.inputs[0]
    first = graph.tensors[last]
    for _ in range(rng.choice((200, 1000, 5000))):
        graph.tensors.append(_copy(made.schema, first, len(graph.tensors)))
        read = {"ADD": [last, last], "CONCATENATION": [last, last], "EXPAND_DIMS": [last, graph.inputs[0]]}
        made.operator(name, read.get(name, [last]), [len(graph.tensors) - 1], {})
        last = len(graph.tensors) - 1


def _copy(schema: Any, tensor: Any, at: int) -> Any:
    made = schema.TensorT()
    made.shape, made.type, made.quantization, made.name = tensor.shape, tensor.type, tensor.quantization, f"t{at}"
    return made


def endless(made: Any, rng: Rng) -> None:
    """Never let a loop end, or let its state grow with every turn."""
    for graph in made.model.subgraphs[1:]:
        for tensor in graph.tensors:
            data = made.model.buffers[tensor.buffer].data
            if tensor.buffer and data is not None and len(data) == 4:
                value = rng.choice((0, 2**31 - 1))
                made.model.buffers[tensor.buffer].data = np.frombuffer(struct.pack("<i", value), np.uint8)


def doubled(made: Any, rng: Rng) -> None:
    """Double a tensor again and again: kilobytes of file, gigabytes of memory."""
    graph = made.model.subgraphs[0]
    last = graph.inputs[0]
    for _ in range(rng.choice((10, 20, 26, 30, 40))):
        graph.tensors.append(_copy(made.schema, graph.tensors[last], len(graph.tensors)))
        shape = list(graph.tensors[last].shape)
        graph.tensors[-1].shape = [*shape[:-1], min(2 * shape[-1], 2**31 - 1)] if shape else []
        made.operator("CONCATENATION", [last, last], [len(graph.tensors) - 1], {"axis": "-1"})
        last = len(graph.tensors) - 1


GRAPH_TWISTS = (chain, endless, doubled)
