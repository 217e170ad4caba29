"""Finds the operation of a model file that computes something else than it did at the export.

At the export `record` keeps samples of every operation's result. Quantized .tflite files are run by TensorFlow Lite's
reference kernels for that: in int8 these are plain integer arithmetic, the same to the bit on every processor and in
every version that was tried, while fast kernels sometimes round one level differently. On the device `check` can
therefore answer two questions separately. Is the file still the same? And do the fast kernels of this machine
compute what the reference kernels do, operation by operation and from the same inputs?

The first question is asked of every file, whatever its outputs are: a probability near 0 or 1 hides what the softmax
or sigmoid got.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.formats.file_end import before_answers
from mbn_deploy.runtime.operation_runs.open import open_operations, operation_kinds
from mbn_deploy.runtime.operation_runs.operation import Operation, Operations

_LARGEST = float(np.finfo(np.float32).max)
SAMPLES = 128  # values kept per result; more if it has more channels, so that every channel is sampled
# Operations whose reference kernels are integer arithmetic throughout. Others look values up in a table that floats
# make, or scale by floats, so that one value in many may be a level off with another C library.
INTEGER_KINDS = frozenset(
    ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "RELU", "RELU6")
) | frozenset(
    ("AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD", "PADV2", "RESHAPE", "CONCATENATION", "HARD_SWISH", "QUANTIZE")
)
# The share of an operation's samples that may be one level off. Kernels that round differently move few values, since
# few lie near the middle between two levels; a wrong scale, zero point or bias moves many.
MOVED_SHARE = 1 / 16
# Floats inside a network may be this much further apart than those at its end, as a fraction of their largest value.
# Errors of layers add in quadrature, but squeeze-and-excitation and pictures of noise make some values small
# differences of large ones: in MobileNet V3-Small, XNNPACK and built-in kernels came to 0.7 times the end's tolerance.
INNER_FLOATS = 4

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
        moved: number of values that differ.
        movable: how many may, each by no more than the tolerance.
        values: number of values that were compared.
        levels: whether the result is an integer tensor.
        against: what it is compared with: its result at the export, or what the reference kernels compute on this
            machine from the same inputs.
    """

    number: int
    kind: str
    name: str
    largest: float
    tolerance: float
    moved: int
    movable: int
    values: int
    levels: bool
    against: Against

    @property
    def passed(self) -> bool:
        """Whether the differences are within the tolerance, and not too many."""
        return self.largest <= self.tolerance and self.moved <= self.movable


@dataclass(frozen=True)
class OperationCheck:
    """The comparison of all operations of a file.

    Attributes:
        compared: number of operations.
        moved: number of integer operations whose results differ at all, as other kernels round differently.
        largest: their largest difference, in quantization levels.
        against: what was compared with.
        first: the first operation that differs by more than its tolerance, if any.
        before_answers: the comparison of what goes into the last softmax or sigmoid, or of the answers themselves where
            there is none, with the export; None if the samples end before it.
        left_out: number of operations at the end of the file of which the export has no samples, since the kernels
            that it takes them with could not compute them.
    """

    compared: int
    moved: int
    largest: float
    against: tuple[Against, ...]
    first: OperationDifference | None
    before_answers: OperationDifference | None = None
    left_out: int = 0

    @property
    def passed(self) -> bool:
        """Whether every operation is within its tolerance."""
        return self.first is None


def check_from_fields(fields: dict[str, Any]) -> OperationCheck:
    """Return the comparison of which `dataclasses.asdict` gave the fields."""
    rows = {name: fields[name] for name in ("first", "before_answers")}
    return OperationCheck(
        **fields | {name: None if row is None else OperationDifference(**row) for name, row in rows.items()}
    )


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
        return len(self.kinds())

    def kinds(self) -> list[str]:
        """Return the kinds of these operations, see `operation_kinds`."""
        return operation_kinds(self.data, self.format, self.where)


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


def check(
    subject: Subject, sources: Sequence[Array], kept: Array, relative: float, *, alone: bool = True
) -> OperationCheck:
    """Compare every operation with the samples of the export.

    With `alone`, every operation of an integer .tflite file is then run alone by the fast kernels, and compared with
    what the reference kernels compute from the same inputs.

    Integers of reference kernels must be equal up to the first operation that is not of `INTEGER_KINDS`. Other integers
    may differ by one quantization level, in `MOVED_SHARE` of the samples if the export is compared with. What goes into
    the last softmax or sigmoid may differ by `relative` of its largest value if it is floats, floats inside the network
    by `INNER_FLOATS` times that.

    Args:
        subject: the file.
        sources: the input tensors that `record` got.
        kept: the samples that `record` returned.
        relative: tolerance of floats.
        alone: whether fast kernels are compared, too; that costs an interpreter for each operation.

    Raises:
        InputError: `kept` are not samples of this file.
    """
    if subject.count is not None and not 0 < subject.count <= subject.count_operations():
        raise InputError(f"{subject.where}: the golden vectors have samples of {subject.count} operations: not of it")
    loaded = subject.operations()
    results = [loaded.run(source) for source in sources]
    before = list(_split(kept, results, subject.where))
    now = [[spread_sample(value) for value in values] for values in results]
    rules = _Rules("export", relative, before_answers(subject.kinds()), exact=subject.referenced and subject.integer)
    rows = list(_rows(rules, loaded.operations, now, before))
    first, end = next((row for row in rows if not row.passed), None), rows[rules.end] if rules.end < len(rows) else None
    # If reference kernels differ, the others tell no more.
    if not alone or not subject.referenced or not subject.integer or first is not None:
        return _summary(subject, rows, ("export",), first, end)
    isolated = list(_run_isolated(subject, sources, results))
    rules = rules._replace(against="reference", exact=False)
    rows = list(_rows(rules, loaded.operations, isolated, results))
    first = next((row for row in rows if not row.passed), None)
    return _summary(subject, rows, ("export", "reference"), first, end)


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


class _Rules(NamedTuple):
    """The rules of a comparison.

    Attributes:
        against: what is compared with.
        relative: the tolerance of floats, see `check`.
        end: position of the operation whose result goes into the last softmax or sigmoid.
        exact: whether operations of `INTEGER_KINDS` must give equal integers.
    """

    against: Against
    relative: float
    end: int
    exact: bool


def _rows(
    rules: _Rules,
    operations: Sequence[Operation],
    found: Sequence[Sequence[Array]],
    wanted: Sequence[Sequence[Array]],
) -> Iterator[OperationDifference]:
    """Compare operation by operation; `found` and `wanted` are indexed by image, then by operation."""
    exact, end_tolerance = rules.exact, 0.0
    for index, operation in enumerate(operations):
        exact = exact and operation.kind in INTEGER_KINDS
        pairs = [(one[index], other[index]) for one, other in zip(found, wanted, strict=True)]
        values = sum(wanted_values.size for _, wanted_values in pairs)
        moved = sum(int((a != b).sum()) for a, b in pairs)
        levels = pairs[0][1].dtype.kind in "iu"
        floats = rules.relative * max(float(np.abs(b).max(initial=0)) for _, b in pairs)
        if index < rules.end:
            floats *= INNER_FLOATS
        elif index == rules.end:
            end_tolerance = floats
        else:  # no probability moves by more than half of what the logits do
            floats = end_tolerance
        yield OperationDifference(
            number=index + 1,
            kind=operation.kind,
            name=operation.name,
            largest=max(_distance(a, b) for a, b in pairs),
            tolerance=float(not exact) if levels else floats,
            moved=moved,
            movable=max(1, int(values * MOVED_SHARE)) if levels and rules.against == "export" else values,
            values=values,
            levels=levels,
            against=rules.against,
        )


def _distance(a: Array, b: Array) -> float:
    """Return the largest difference; NaN and infinity count as the largest float."""
    difference = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0))
    return difference if math.isfinite(difference) else _LARGEST


def _summary(
    subject: Subject,
    rows: list[OperationDifference],
    against: tuple[Against, ...],
    first: OperationDifference | None,
    end: OperationDifference | None,
) -> OperationCheck:
    integers = [row.largest for row in rows if row.levels]
    return OperationCheck(
        compared=len(rows),
        moved=sum(map(bool, integers)),
        largest=max(integers, default=0.0),
        against=against,
        first=first,
        before_answers=end,
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
