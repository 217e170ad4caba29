"""The division of an opened file by a delegate: XNNPACK is the default one of TFLite interpreters on CPUs."""

from __future__ import annotations

from typing import Any, NamedTuple

_DELEGATE = "DELEGATE"
XNNPACK, BUILT_IN = "XNNPACK", "built-in kernels"


class Partitioning(NamedTuple):
    """The number of a delegate's partitions, all ops of the file, and those that it leaves to built-in kernels."""

    partitions: int
    ops: list[dict[str, Any]]
    outside: list[dict[str, Any]]


def partitioning(interpreter: Any) -> Partitioning:
    """Return how the delegate divides the file of an interpreter with allocated tensors."""
    # There is no public function for this; the interpreter's own printing of ops uses this one.
    ops = interpreter._get_ops_details()  # noqa: SLF001
    delegates = [op for op in ops if op["op_name"] == _DELEGATE]
    own = [op for op in ops if op["op_name"] != _DELEGATE]
    taken = {index for delegate in delegates for index in _inside(delegate, own)}
    return Partitioning(len(delegates), own, [op for op in own if op["index"] not in taken])


def kernel_family(interpreter: Any) -> str:
    """Return which kernels compute: `XNNPACK`, `built-in kernels`, or both with their shares of the ops."""
    divided = partitioning(interpreter)
    count = len(divided.ops)
    taken = count - len(divided.outside)
    if not taken:
        return BUILT_IN
    return XNNPACK if taken == count else f"{XNNPACK} ({taken} of {count} operations) and {BUILT_IN}"


def _inside(delegate: dict[str, Any], ops: list[dict[str, Any]]) -> set[int]:
    """Return the ops between a partition's outputs and inputs; the interpreter lists them beside their delegate."""
    writers = {int(tensor): op for op in ops for tensor in op["outputs"]}
    border = {int(tensor) for tensor in delegate["inputs"]}
    inside: set[int] = set()
    waiting = [int(tensor) for tensor in delegate["outputs"]]
    while waiting:
        op = writers.get(waiting.pop())
        if op is not None and op["index"] not in inside:
            inside.add(op["index"])
            waiting += [int(tensor) for tensor in op["inputs"] if int(tensor) not in border]
    return inside
