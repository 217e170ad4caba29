"""Finds the operation of a model file that computes something else than it did at the export.

At the export `record` keeps samples of every operation's result. Quantized .tflite files are run by TensorFlow Lite's
reference kernels for that: in int8 these are plain integer arithmetic, the same to the bit on every processor and in
every version that was tried, while fast kernels sometimes round one level differently. On the device `check` can
therefore answer two questions separately. Is the file still the same? And do the fast kernels of this machine
compute what the reference kernels do, operation by operation and from the same inputs?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.operation_runs.open import count_operations, open_operations
from mbn_deploy.runtime.operation_runs.operation import Operation, Operations

_LARGEST = float(np.finfo(np.float32).max)
SAMPLES = 128  # values kept per result; more if it has more channels, so that every channel is sampled

Against = Literal["export", "reference"]


@dataclass(frozen=True)
class OperationDifference:
    """The difference between the result of one operation and the expected one.

    Attributes:
        number: position of the operation, from 1.
        kind: its operator, as "CONV_2D".
        name: the name of the tensor that it writes.
        largest: the largest difference, in quantization levels if `levels`, else in the result's own unit.
        tolerance: how large it may be.
        levels: whether the result is an integer tensor.
        against: what it is compared with: its result at the export, or what the reference kernels compute on this
            machine from the same inputs.
    """

    number: int
    kind: str
    name: str
    largest: float
    tolerance: float
    levels: bool
    against: Against

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class OperationCheck:
    """The comparison of all operations of a file.

    Attributes:
        compared: number of operations.
        moved: number of integer operations whose results differ at all, as other kernels round differently.
        largest: their largest difference, in quantization levels.
        against: what was compared with.
        first: the first operation that differs by more than its tolerance, if any.
        left_out: number of operations at the end of the file of which the export has no samples, since the kernels
            that it takes them with could not compute them.
    """

    compared: int
    moved: int
    largest: float
    against: tuple[Against, ...]
    first: OperationDifference | None
    left_out: int = 0

    @property
    def passed(self) -> bool:
        """Whether every operation is within its tolerance."""
        return self.first is None


@dataclass(frozen=True)
class Subject:
    """A model file and what is needed to run it.

    `count` is how many of its operations are run, the first ones; None for all.
    """

    data: bytes
    format: FileFormat
    precision: str
    backend: str
    threads: int
    where: str
    count: int | None = None

    @property
    def integer(self) -> bool:
        """Whether the file computes in integers, wholly or in part."""
        return self.precision.startswith("int")

    @property
    def referenced(self) -> bool:
        """Whether reference kernels run it. They are slow, and float files do not need them."""
        return self.format == "tflite" and (self.integer or self.precision == "dynamic")

    def operations(self) -> Operations:
        """Load the file with the kernels that `record` and the first part of `check` use."""
        return open_operations(
            self.data,
            self.format,
            self.backend,
            threads=self.threads,
            where=self.where,
            reference=self.referenced,
            count=self.count,
        )

    def count_operations(self) -> int:
        """Return the number of operations of which samples are taken, without running anything."""
        return count_operations(self.data, self.format, self.where)


def record(subject: Subject, sources: Sequence[Array]) -> tuple[Array, Array]:
    """Run the file on `sources`, input tensors, and sample the result of every operation.

    Returns:
        The samples as one uint8 vector of their bytes, and what the last operation that is run writes for each source.
    """
    operations = subject.operations()
    results = [operations.run(source) for source in sources]
    samples = b"".join(spread_sample(value).tobytes() for values in results for value in values)
    outputs = [values[-1][:1].reshape(1, -1) for values in results]
    return np.frombuffer(samples, np.uint8), np.concatenate(outputs)


def check(subject: Subject, sources: Sequence[Array], kept: Array, relative: float) -> OperationCheck:
    """Compare every operation with the samples of the export, and those of an int8 .tflite file with reference kernels.

    Integers may differ by one quantization level, floats by `relative` of the largest value of their tensor.

    Args:
        subject: the file.
        sources: the input tensors that `record` got.
        kept: the samples that `record` returned.
        relative: tolerance of floats.

    Raises:
        InputError: `kept` are not samples of this file.
    """
    if subject.count is not None and not 0 < subject.count <= subject.count_operations():
        raise InputError(f"{subject.where}: the golden vectors have samples of {subject.count} operations: not of it")
    loaded = subject.operations()
    results = [loaded.run(source) for source in sources]
    before = list(_split(kept, results, subject.where))
    now = [[spread_sample(value) for value in values] for values in results]
    rows = list(_rows(loaded.operations, now, before, relative, "export"))
    first = next((row for row in rows if not row.passed), None)
    if (
        not subject.referenced or not subject.integer or first is not None
    ):  # if reference kernels differ, the others tell no more
        return _summary(subject, rows, ("export",), first)
    isolated = list(_run_isolated(subject, sources, results))
    rows = list(_rows(loaded.operations, isolated, results, relative, "reference"))
    return _summary(subject, rows, ("export", "reference"), next((row for row in rows if not row.passed), None))


def _run_isolated(
    subject: Subject, sources: Sequence[Array], results: Sequence[Sequence[Array]]
) -> Iterator[list[Array]]:
    """Run each operation alone with fast kernels, on its inputs among `results`. Yield its results image by image."""
    from mbn_deploy.runtime.operation_runs.tflite import SingleOperation, Wiring

    wiring = Wiring(subject.data, subject.where)
    tensors = [
        {wiring.source: source, **dict(zip(wiring.written, values, strict=False))}
        for source, values in zip(sources, results, strict=True)
    ]
    by_operation = []
    for index in range(len(results[0])):
        lone = SingleOperation(wiring, index, subject.backend, subject.threads, subject.where)
        by_operation.append([lone.run(known) for known in tensors])
    yield from (list(values) for values in zip(*by_operation, strict=True))


def _rows(
    operations: Sequence[Operation],
    found: Sequence[Sequence[Array]],
    wanted: Sequence[Sequence[Array]],
    relative: float,
    against: Against,
) -> Iterator[OperationDifference]:
    """Compare operation by operation; `found` and `wanted` are indexed by image, then by operation."""
    for index, operation in enumerate(operations):
        pairs = [(one[index], other[index]) for one, other in zip(found, wanted, strict=True)]
        largest = max(_distance(a, b) for a, b in pairs)
        levels = pairs[0][1].dtype.kind in "iu"
        allowed = 1.0 if levels else relative * max(float(np.abs(b).max(initial=0)) for _, b in pairs)
        yield OperationDifference(index + 1, operation.kind, operation.name, largest, allowed, levels, against)


def _distance(a: Array, b: Array) -> float:
    """Return the largest difference; NaN and infinity count as the largest float."""
    difference = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0))
    return difference if math.isfinite(difference) else _LARGEST


def _summary(
    subject: Subject,
    rows: list[OperationDifference],
    against: tuple[Against, ...],
    first: OperationDifference | None,
) -> OperationCheck:
    integers = [row.largest for row in rows if row.levels]
    return OperationCheck(
        compared=len(rows),
        moved=sum(map(bool, integers)),
        largest=max(integers, default=0.0),
        against=against,
        first=first,
        left_out=0 if subject.count is None else subject.count_operations() - len(rows),
    )


def spread_sample(value: Array) -> Array:
    """Return `SAMPLES` values or more, spread over the tensor so that every channel (last axis) is among them.

    The step between them has no divisor in common with the tensor's size, so any run of as many values as there are
    channels visits each channel once.
    """
    flat = value.reshape(-1)
    count = min(flat.size, max(SAMPLES, value.shape[-1] if value.ndim else 1))
    step = next(n for n in range(round(flat.size * 0.618), 2 * flat.size + 2) if np.gcd(n, flat.size) == 1)
    return np.asarray(flat[np.arange(count) * step % flat.size])


def _split(kept: Array, results: Sequence[Sequence[Array]], where: str) -> Iterator[list[Array]]:
    """Cut `kept` into samples by image and operation, of the types and sizes that `results` have."""
    samples = [[spread_sample(value) for value in values] for values in results]
    if kept.dtype != np.uint8 or kept.nbytes != sum(sample.nbytes for values in samples for sample in values):
        raise InputError(f"{where}: the samples of its operations in the golden vectors are not of this file")
    data, at = kept.tobytes(), 0
    for values in samples:
        row = []
        for sample in values:
            row.append(np.frombuffer(data, sample.dtype, sample.size, at))
            at += sample.nbytes
        yield row
