"""Twists of the tensors of a .tflite model: shapes, types, quantization, constants, buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz_tflite_picks import (
    LENGTHS,
    NUMBERS,
    NUMERIC,
    REALS,
    TYPES,
    ZERO_POINTS,
    Rng,
    convert,
    pick_constant,
    pick_graph,
    pick_tensor,
    quantize,
)


def length(model: Any, _: Any, rng: Rng) -> None:
    """Change one length of a shape."""
    tensor = pick_tensor(model, rng)
    if len(tensor.shape):
        tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(LENGTHS)


def rank(model: Any, _: Any, rng: Rng) -> None:
    """Give a tensor more or fewer axes, or none, or no shape at all."""
    tensor = pick_tensor(model, rng)
    choice = rng.randrange(5)
    if choice == 0:
        tensor.shape = []
    elif choice == 1:
        tensor.shape = [1] * rng.randrange(9) + list(tensor.shape)
    elif choice == 2:
        tensor.shape = list(tensor.shape)[1:]
    elif choice == 3:
        tensor.shape = [int(np.prod(tensor.shape, dtype=object))]
    else:
        tensor.shape, tensor.hasRank = None, rng.random() < 0.5


def shape(model: Any, _: Any, rng: Rng) -> None:
    """Give a tensor any shape."""
    pick_tensor(model, rng).shape = [rng.choice((0, 1, 1, 2, 3, 4, 100, 1000)) for _ in range(rng.randrange(7))]


def signature(model: Any, _: Any, rng: Rng) -> None:
    """Give a tensor a signature of its shape, with open or contradicting lengths."""
    tensor = pick_tensor(model, rng)
    tensor.shapeSignature = [rng.choice((n, n, -1, -1, 0, 1000)) for n in tensor.shape] or [-1]
    tensor.hasRank = rng.random() < 0.5


def type_(model: Any, _: Any, rng: Rng) -> None:
    """Give a tensor another type."""
    convert(model, pick_tensor(model, rng), rng.choice(TYPES))


def types(model: Any, schema: Any, rng: Rng) -> None:
    """Give all tensors of one type another one, with or without quantization."""
    graph = pick_graph(model, rng)
    old, new = rng.choice(graph.tensors).type, rng.choice((1, 2, 3, 4, 6, 7, 9, 9, 9, 10, 17))
    scaled = rng.random() < 0.7
    for tensor in graph.tensors:
        if tensor.type == old:
            convert(model, tensor, new)
            if scaled:
                quantize(tensor, schema, [rng.choice((0.05, 0.05, 0.01, 1.0))], [0])


def quantized(model: Any, schema: Any, rng: Rng) -> None:
    """Make an int8, uint8 or int16 model of a float one, biases included."""
    kind = rng.choice((9, 9, 9, 3, 7))
    for graph in model.subgraphs:
        _quantize_graph(graph, model, schema, kind, rng)


def _quantize_graph(graph: Any, model: Any, schema: Any, kind: int, rng: Rng) -> None:
    for number, tensor in enumerate(graph.tensors):
        if tensor.type == 0:
            bias = tensor.buffer and any(number in list(o.inputs)[2:3] for o in graph.operators)
            convert(model, tensor, 2 if bias and len(tensor.shape) == 1 else kind)
            quantize(tensor, schema, [0.0025 if tensor.type == 2 else rng.choice((0.05, 0.05, 0.003))], [0])


def scale(model: Any, schema: Any, rng: Rng) -> None:
    """Give a tensor an extreme scale or zero point."""
    tensor = pick_tensor(model, rng)
    if rng.random() < 0.5 and tensor.quantization is not None:
        tensor.quantization.zeroPoint = [rng.choice(ZERO_POINTS)]
    else:
        quantize(tensor, schema, [rng.choice(REALS)], [rng.choice(ZERO_POINTS[:6])])


def scales(model: Any, schema: Any, rng: Rng) -> None:
    """Give a tensor scales for each channel: too many, too few, along an axis that is not there."""
    tensor = pick_tensor(model, rng)
    count = rng.choice((0, 1, 2, 3, 4, 7, 48, *(n for n in tensor.shape if 0 <= n < 100)))
    quantize(tensor, schema, [rng.choice((0.05, 0.05, 0.1, *REALS)) for _ in range(count)], [0] * count)
    if rng.random() < 0.3:
        tensor.quantization.zeroPoint = [0] * rng.choice((0, 1, 2, 100))
    tensor.quantization.quantizedDimension = rng.choice((0, 0, 1, 2, 3, 4, -1, 2**31 - 1))


def unscaled(model: Any, _: Any, rng: Rng) -> None:
    """Take the quantization of a tensor away."""
    pick_tensor(model, rng).quantization = None


def blockwise(model: Any, schema: Any, rng: Rng) -> None:
    """Add quantization in blocks, or of a kind of its own, that points anywhere."""
    tensor = pick_tensor(model, rng)
    quantize(tensor, schema, [0.1], [0])
    if rng.random() < 0.7:
        details = schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints = rng.choice(NUMBERS), rng.choice((-1, 0, 1, 1000))
        details.blockSize = rng.choice((0, 1, 4, 32, -1, 2**31 - 1))
        tensor.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    else:
        details = schema.CustomQuantizationT()
        details.custom = [1, 2, 3]
        tensor.quantization.detailsType = schema.QuantizationDetails.CustomQuantization
    tensor.quantization.details = details


def number(model: Any, _: Any, rng: Rng) -> None:
    """Change a value of a constant: an axis, an amount, an index, a weight."""
    integers = [t for g in model.subgraphs for t in g.tensors if t.buffer and t.type in (2, 4)]
    tensor = rng.choice(integers) if integers and rng.random() < 0.8 else pick_constant(model, rng)
    buffer, dtype = model.buffers[tensor.buffer], NUMERIC.get(tensor.type)
    if dtype is None or buffer.data is None:
        return
    values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), dtype).copy()
    if not values.size:
        return
    source = REALS if "f" in dtype else NUMBERS
    for _ in range(rng.choice((1, 1, 1, 2, values.size))):
        value = rng.choice(source)
        if "i" in dtype or "u" in dtype:
            bounds = np.iinfo(dtype)
            value = min(max(int(value), int(bounds.min)), int(bounds.max))
        with np.errstate(all="ignore"):
            values[rng.randrange(values.size)] = value
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)


def large(model: Any, _: Any, rng: Rng) -> None:
    """Multiply all amounts of a constant, which then claims much memory or time."""
    integers = [t for g in model.subgraphs for t in g.tensors if t.buffer and t.type == 2]
    if not integers:
        return
    buffer = model.buffers[rng.choice(integers).buffer]
    factor = rng.choice((8, 64, 100, 1000, 4000, 20000, 100000, 2**24))
    values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), "<i4").astype(np.int64) * factor
    buffer.data = np.frombuffer(np.clip(values, -(2**31), 2**31 - 1).astype("<i4").tobytes(), np.uint8)


def content(model: Any, _: Any, rng: Rng) -> None:
    """Make a constant's content shorter, longer, or empty."""
    buffer = model.buffers[pick_constant(model, rng).buffer]
    data = np.asarray([] if buffer.data is None else buffer.data, np.uint8)
    choice = rng.randrange(4)
    buffer.data = (None, data[: len(data) // 2], np.concatenate([data, data]), np.zeros(0, np.uint8))[choice]


def buffer_elsewhere(model: Any, _: Any, rng: Rng) -> None:
    """Give a buffer an offset and a size, for data that stand behind the model or nowhere."""
    buffer = rng.choice(model.buffers)
    buffer.offset, buffer.size = rng.choice((1, 2, 8, 1000, 2**31, 2**63)), rng.choice((0, 4, 100, 2**31, 2**63))


def shared(model: Any, _: Any, rng: Rng) -> None:
    """Let two tensors have one buffer; what was computed then has a constant's memory."""
    pick_tensor(model, rng).buffer = rng.randrange(len(model.buffers))


def variable(model: Any, _: Any, rng: Rng) -> None:
    """Make a variable of a tensor."""
    pick_tensor(model, rng).isVariable = True


def sparse(model: Any, schema: Any, rng: Rng) -> None:
    """Call a tensor sparse, with any order, blocks and indices."""
    tensor = pick_tensor(model, rng)
    tensor.sparsity = schema.SparsityParametersT()
    count = rng.choice((0, 1, len(tensor.shape), len(tensor.shape), len(tensor.shape) + 1))
    tensor.sparsity.traversalOrder = [rng.choice((n, n, n, rng.choice(NUMBERS))) for n in range(count)]
    tensor.sparsity.blockMap = [rng.choice(NUMBERS) for _ in range(rng.choice((0, 0, 1, 2)))] or None
    tensor.sparsity.dimMetadata = [_dimension(schema, tensor, axis, rng) for axis in range(count)]


def _dimension(schema: Any, tensor: Any, axis: int, rng: Rng) -> Any:
    made = schema.DimensionMetadataT()
    made.format = rng.choice((0, 0, 1))
    made.denseSize = tensor.shape[axis] if axis < len(tensor.shape) and rng.random() < 0.7 else rng.choice(NUMBERS)
    if made.format or rng.random() < 0.1:
        name, kind = rng.choice((("Int32Vector", 1), ("Uint16Vector", 2), ("Uint8Vector", 3)))
        for field in ("arraySegments", "arrayIndices"):
            vector = getattr(schema, f"{name}T")()
            vector.values = [rng.choice((0, 1, 2, 3, 100)) for _ in range(rng.choice((0, 1, 2, 5)))]
            setattr(made, field, vector)
            setattr(made, f"{field}Type", kind)
    return made
