"""Which operation of a file computes something else than it did at the export.

At the export, some values of every operation's result are kept (`record`). Quantized .tflite files are run by
TensorFlow Lite's reference kernels for that. With int8 they are plain integer arithmetic, the same to the bit on
every processor and in every version that was tried, while fast kernels round now and then a level away. So on
the device two questions can be told apart (`check`): does the file still say what it said, and do the fast kernels
of this machine compute, operation by operation and from the same inputs, what the reference kernels do?
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
from mbn_deploy.runtime.operation_runs.open import open_operations
from mbn_deploy.runtime.operation_runs.operation import Operation, Operations

_LARGEST = float(np.finfo(np.float32).max)
SAMPLES = 128  # values kept of a result; more where it has more channels, so that each is among them

Against = Literal["export", "reference"]


@dataclass(frozen=True)
class OperationDifference:
    """An operation, counted from 1, whose result is off; in levels where `levels`, else in its own unit.

    `against` says from what: from what it gave at the export, or from the reference kernels on this
    machine, given the same inputs.
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
        """Within the tolerance."""
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class OperationCheck:
    """All operations of a file. `first` is the first that is off by more than its tolerance.

    `moved` of `compared` are off at all, by `largest` at most (in levels; operations on floats aside):
    what other kernels round differently.
    """

    compared: int
    moved: int
    largest: float
    against: tuple[Against, ...]
    first: OperationDifference | None

    @property
    def passed(self) -> bool:
        """No operation is off."""
        return self.first is None


@dataclass(frozen=True)
class Subject:
    """A file with what is needed to run it."""

    data: bytes
    format: FileFormat
    precision: str
    backend: str
    threads: int
    where: str

    @property
    def integer(self) -> bool:
        """Whether it computes in integers, wholly or in part."""
        return self.precision.startswith("int")

    @property
    def referenced(self) -> bool:
        """Whether reference kernels are asked: they are slow, and floats need none."""
        return self.format == "tflite" and (self.integer or self.precision == "dynamic")

    def opened(self) -> Operations:
        """The operations by the kernels that `record` and the first part of `check` use."""
        return open_operations(
            self.data, self.format, self.backend,
            threads=self.threads, where=self.where, reference=self.referenced,
        )  # fmt: skip


def record(subject: Subject, sources: Sequence[Array]) -> tuple[Array, Array]:
    """Samples of every operation's result on `sources`, tensors of the file's input: one uint8 vector of their bytes.

    And the outputs (sources, classes), by the kernels that the samples are made with.
    """
    opened = subject.opened()
    results = [opened.run(source) for source in sources]
    samples = b"".join(_sample(value).tobytes() for values in results for value in values)
    outputs = [values[-1][:1].reshape(1, -1) for values in results]
    return np.frombuffer(samples, np.uint8), np.concatenate(outputs)


def check(subject: Subject, sources: Sequence[Array], kept: Array, relative: float) -> OperationCheck:
    """Compare every operation with `kept`, and those of an int8 .tflite file with the reference kernels, too.

    Integers may be off by one level, floats by `relative` of the largest value. Raises `InputError`
    where `kept` is not of this file.
    """
    opened = subject.opened()
    results = [opened.run(source) for source in sources]
    before = list(_split(kept, results, subject.where))
    now = [[_sample(value) for value in values] for values in results]
    rows = list(_rows(opened.operations, now, before, relative, "export"))
    first = next((row for row in rows if not row.passed), None)
    if not subject.referenced or not subject.integer or first is not None:  # a wrong reference tells no more
        return _summary(rows, ("export",), first)
    alone = list(_alone(subject, sources, results))
    rows = list(_rows(opened.operations, alone, results, relative, "reference"))
    return _summary(rows, ("export", "reference"), next((row for row in rows if not row.passed), None))


def _alone(subject: Subject, sources: Sequence[Array], results: Sequence[Sequence[Array]]) -> Iterator[list[Array]]:
    """By image: each operation's result from the inputs that it has among `results`, by this machine's fast kernels."""
    from mbn_deploy.runtime.operation_runs.tflite import LoneOperation, Wiring

    wiring = Wiring(subject.data, subject.where)
    tensors = [
        {wiring.source: source, **dict(zip(wiring.written, values, strict=True))}
        for source, values in zip(sources, results, strict=True)
    ]
    by_operation = []
    for index in range(len(wiring.written)):
        lone = LoneOperation(wiring, index, subject.backend, subject.threads, subject.where)
        by_operation.append([lone.run(known) for known in tensors])
    yield from (list(values) for values in zip(*by_operation, strict=True))


def _rows(
    operations: Sequence[Operation],
    found: Sequence[Sequence[Array]],
    wanted: Sequence[Sequence[Array]],
    relative: float,
    against: Against,
) -> Iterator[OperationDifference]:
    """A row an operation; `found` and `wanted` are by image, then by operation."""
    for index, operation in enumerate(operations):
        pairs = [(one[index], other[index]) for one, other in zip(found, wanted, strict=True)]
        largest = max(_distance(a, b) for a, b in pairs)
        levels = pairs[0][1].dtype.kind in "iu"
        allowed = 1.0 if levels else relative * max(float(np.abs(b).max(initial=0)) for _, b in pairs)
        yield OperationDifference(index + 1, operation.kind, operation.name, largest, allowed, levels, against)


def _distance(a: Array, b: Array) -> float:
    """The largest difference; one that is no number counts as the largest of all."""
    difference = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0))
    return difference if math.isfinite(difference) else _LARGEST


def _summary(
    rows: list[OperationDifference], against: tuple[Against, ...], first: OperationDifference | None
) -> OperationCheck:
    integers = [row.largest for row in rows if row.levels]
    return OperationCheck(len(rows), sum(map(bool, integers)), max(integers, default=0.0), against, first)


def _sample(value: Array) -> Array:
    """Values spread over all of it: steps that have no divisor in common with its size reach every channel.

    Channels are the last axis; as many values as channels in a row have each channel once.
    """
    flat = value.reshape(-1)
    count = min(flat.size, max(SAMPLES, value.shape[-1] if value.ndim else 1))
    step = next(n for n in range(round(flat.size * 0.618), 2 * flat.size + 2) if np.gcd(n, flat.size) == 1)
    return np.asarray(flat[np.arange(count) * step % flat.size])


def _split(kept: Array, results: Sequence[Sequence[Array]], where: str) -> Iterator[list[Array]]:
    """`kept` as samples, by image and operation, of the types and sizes that `results` have."""
    samples = [[_sample(value) for value in values] for values in results]
    if kept.dtype != np.uint8 or kept.nbytes != sum(sample.nbytes for values in samples for sample in values):
        raise InputError(f"{where}: the samples of its operations in the golden vectors are not of this file")
    data, at = kept.tobytes(), 0
    for values in samples:
        row = []
        for sample in values:
            row.append(np.frombuffer(data, sample.dtype, sample.size, at))
            at += sample.nbytes
        yield row
