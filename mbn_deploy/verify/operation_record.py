"""Records the samples of every operation's result at the export, in a child process.

Kernels may abort where a file's own interpreter run does not: TensorFlow Lite's reference SOFTMAX, for one, ends the
process if more than 511 classes are about equally likely (`exponent` in reference/softmax.h), as in a network without
weights. Then the operations before the one that aborts are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.runtime.operation_runs.onnx import sampled_operations
from mbn_deploy.runtime.operation_runs.tflite import Wiring
from mbn_deploy.runtime.system.child import ChildError
from mbn_deploy.verify.interpreter_process import InterpreterProcess
from mbn_deploy.verify.operation_check import Subject, record


@dataclass(frozen=True, eq=False)
class OperationSamples:
    """The samples of a file's operations.

    Attributes:
        values: samples of the results, as `record` returns them.
        outputs: the file's outputs (sources, classes) by the kernels that the samples are of; None if not all
            operations could be recorded.
        count: how many operations were recorded, the first ones; None if all were.
        warning: a sentence that names the operation which could not be recorded, and why; "" if all were.
    """

    values: Array
    outputs: Array | None
    count: int | None = None
    warning: str = ""


def record_operations(process: InterpreterProcess, subject: Subject, sources: Sequence[Array]) -> OperationSamples:
    """Run a file on `sources`, input tensors, in the child process, and sample the results of its operations.

    If kernels crash or refuse an operation, the operations before it are recorded.
    """
    try:
        return OperationSamples(*process.call(record_in_child, asdict(subject), list(sources)))
    except (ChildError, InputError) as error:
        return _record_first(process, subject, sources, str(error))


def record_in_child(subject: dict[str, Any], sources: list[Array]) -> tuple[Array, Array]:
    """Return what `record` does for the fields of a `Subject`. Runs in the child."""
    return record(Subject(**subject), sources)


def _record_first(
    process: InterpreterProcess, subject: Subject, sources: Sequence[Array], problem: str
) -> OperationSamples:
    """Record as many operations as run, found by bisection; the last operation is suspected first."""
    total = subject.count_operations()
    values, good, bad, tried = np.zeros(0, np.uint8), 0, total, total - 1
    while bad - good > 1:
        fields = asdict(subject) | {"count": tried}
        try:
            values, _ = process.call(record_in_child, fields, list(sources))
            good = tried
        except (ChildError, InputError) as error:
            bad, problem = tried, str(error)
        tried = (good + bad) // 2
    kernels = "TensorFlow Lite's reference kernels" if subject.referenced else subject.backend
    warning = (
        f"{subject.where}: operation {good + 1} of {total}, {_operation(subject, good)}, cannot be run alone "
        f"({kernels} {problem}); the golden vectors have no samples of it and what follows"
    )
    return OperationSamples(values, None, good, warning)


def _operation(subject: Subject, index: int) -> str:
    """Return the kind and name of one of the operations that samples are taken of, by its position."""
    if subject.format == "onnx":
        return str(sampled_operations(subject.data, subject.where)[index])
    number = Wiring(subject.data, subject.where).numbers[index]
    op = report_tflite(subject.data, subject.where).ops[number]
    return f"{op.kind} {op.name!r}"
