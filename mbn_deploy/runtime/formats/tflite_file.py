"""Check that a .tflite file is consistent before an interpreter opens it, and read its metadata.

Interpreters check little: an index without a target or weights of another size crash the process. Field numbers are
the declaration order of TensorFlow Lite's schema.fbs (version 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, UnsuitableError, damage_named, root

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
MOST_AXES = 32  # kernels take up to 8
LARGEST_TENSOR = 2**30  # bytes; the interpreter would ask the system for as much as a damaged shape says
# TensorType: bytes of one value, for the types whose size is a whole number of bytes.
TYPE_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 8: 8, 9: 1, 10: 8, 11: 16, 12: 8, 15: 4, 16: 2}
# TensorType: less than a byte a value. Constants may be so; kernels write whole bytes, beyond the end of such a tensor.
_PACKED = frozenset({17, 19, 20})
# TensorType: smallest and largest zero point.
_ZERO_POINTS = {3: (0, 255), 9: (-128, 127)}


def read_metadata(data: bytes, where: str) -> dict[str, bytes]:
    """Check the structure of a .tflite file and return its metadata buffers by name.

    Raises `InputError` for a missing identifier, another schema version, buffers that reach beyond the end (a truncated
    file), indices without a target, constants whose size is not that of their shape, tensors that are read before an op
    writes them, and constants and results that an op writes over.
    """
    with damage_named(where):
        model = root(data, IDENTIFIER)
        version = model.scalar(0, "I", 0)
        if version != SCHEMA_VERSION:
            raise DamagedError(f"schema version {version}, not {SCHEMA_VERSION}")
        buffers = model.tables(4)
        sizes = [_buffer_size(buffer) for buffer in buffers]
        graphs = model.tables(2)
        if not graphs:
            raise DamagedError("there is no graph in it")
        for graph in graphs:
            _check_graph(graph, sizes, [bool(code.text(1)) for code in model.tables(1)])
        entries = [(entry.text(0), entry.scalar(1, "I", 0)) for entry in model.tables(6)]
        _check_indices("metadata buffer", (index for _, index in entries), len(buffers))
        return {name: buffers[index].blob(0) for name, index in entries}


def axis_lengths(tensor: Table, field: int) -> tuple[int, ...]:
    """Return a shape of a Tensor: field 0 has the lengths of its axes, field 7 those with -1 for open ones."""
    shape = tuple(int(n) for n in tensor.numbers(field, "i"))
    if len(shape) > MOST_AXES:
        raise DamagedError(f"tensor {tensor.text(3)!r:.80} has {len(shape)} axes")
    return shape


def _buffer_size(buffer: Table) -> int:
    inside = buffer.vector(0, 1)[1]
    offset, size = buffer.scalar(1, "Q", 0), buffer.scalar(2, "Q", 0)  # data behind the flatbuffer
    if offset + size > len(buffer.data):
        raise DamagedError(f"a buffer of {size} bytes at byte {offset} reaches beyond the end of the file")
    return inside or size


def _check_graph(graph: Table, sizes: list[int], custom: list[bool]) -> None:
    """Check the indices of a graph; `custom` tells which operator codes are not of TensorFlow Lite."""
    tensors = graph.tables(0)
    constants = [index for index, tensor in enumerate(tensors) if _is_constant(tensor, sizes)]
    sources, results = graph.numbers(1, "i"), graph.numbers(2, "i")
    _check_indices("tensor", (*sources, *results), len(tensors))
    variables = [index for index, tensor in enumerate(tensors) if tensor.scalar(5, "B", 0)]
    known = {*constants, *sources, *variables}
    taken = {*constants, *sources}  # tensors that no operation may write to: the file's own bytes stand in a constant
    for operator in graph.tables(3):
        code = operator.scalar(0, "I", 0)
        _check_indices("operator code", [code], len(custom))
        inputs = [i for i in operator.numbers(1, "i") if i != -1]  # -1: an optional input that is omitted
        outputs = operator.numbers(2, "i")
        _check_indices("tensor", (*inputs, *outputs), len(tensors))
        if not custom[code]:  # accelerators' compilers add tensors of memory to work in
            _check_written(inputs, known)
            _check_free(outputs, taken)
            _check_types(outputs, tensors)
        known.update(outputs)
    _check_written(results, known)


def _is_constant(tensor: Table, sizes: list[int]) -> bool:
    """Check that a tensor's shape, data and quantization fit together; return whether it has data in the file."""
    index = tensor.scalar(2, "I", 0)
    _check_indices("buffer", [index], len(sizes))
    shape = list(axis_lengths(tensor, 0))
    if any(n < 0 for n in shape):
        raise DamagedError(f"tensor {tensor.text(3)!r} has shape {shape}")
    _check_quantization(tensor, shape)
    width = TYPE_BYTES.get(tensor.scalar(1, "b", 0))
    if math.prod(shape) * (width or 1) > LARGEST_TENSOR:
        raise UnsuitableError(f"tensor {tensor.text(3)!r} of shape {shape} is too large for any picture classifier")
    sparse = tensor.table(6) is not None
    if sizes[index] and width is not None and not sparse and sizes[index] != math.prod(shape) * width:
        raise DamagedError(f"tensor {tensor.text(3)!r} of shape {shape} has {sizes[index]} bytes of data")
    return sizes[index] > 0


def _check_quantization(tensor: Table, shape: list[int]) -> None:
    params = tensor.table(4)
    if params is None:
        return
    scales, zeros = params.numbers(2, "f"), params.numbers(3, "q")
    axis, count = params.scalar(6, "i", 0), len(scales)
    # Converters before 2021 state the axis of the filter for its bias, too; kernels do not read it there.
    fits = count <= 1 or shape == [count] or (0 <= axis < len(shape) and count == shape[axis])
    if not fits or len(zeros) not in (0, 1, count):
        raise DamagedError(f"tensor {tensor.text(3)!r}: {count} scales and {len(zeros)} zero points for shape {shape}")
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise DamagedError(f"tensor {tensor.text(3)!r} has a scale that is no positive number")
    low, high = _ZERO_POINTS.get(tensor.scalar(1, "b", 0), (-math.inf, math.inf))
    if not all(low <= zero <= high for zero in zeros):
        raise DamagedError(f"tensor {tensor.text(3)!r} has a zero point outside of its type")


def _check_indices(what: str, indices: Iterable[float], count: int) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise DamagedError(f"{what} {index:g} is named, there are {count}")


def _check_written(indices: Iterable[float], known: set[float]) -> None:
    for index in indices:
        if index not in known:
            raise DamagedError(f"tensor {index:g} is read before anything is written to it")


def _check_free(indices: Iterable[float], taken: set[float]) -> None:
    """Check that nothing stands in the tensors that an operation writes, and note that something does from now on."""
    for index in indices:
        if index in taken:
            raise DamagedError(f"tensor {index:g} is written to although something stands in it")
        taken.add(index)


def _check_types(outputs: Iterable[float], tensors: list[Table]) -> None:
    for index in outputs:
        if tensors[int(index)].scalar(1, "b", 0) in _PACKED:
            raise UnsuitableError(f"tensor {index:g}, which an operation writes, has values of less than a byte")
