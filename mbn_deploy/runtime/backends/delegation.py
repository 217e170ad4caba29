"""What a delegate (XNNPACK, the default one of TFLite interpreters on processors) took of an opened file."""

from __future__ import annotations

from typing import Any, NamedTuple

_DELEGATE = "DELEGATE"
XNNPACK, BUILT_IN = "XNNPACK", "built-in kernels"


class Division(NamedTuple):
    """Partitions that the delegate took, all operations of the file, and those that it left to built-in kernels."""

    partitions: int
    operations: list[dict[str, Any]]
    left: list[dict[str, Any]]


def division(interpreter: Any) -> Division:
    """How an interpreter with allocated tensors divided its file."""
    # No public function tells what a delegate took; the interpreter's own printing of ops uses this one.
    ops = interpreter._get_ops_details()  # noqa: SLF001
    delegates = [op for op in ops if op["op_name"] == _DELEGATE]
    own = [op for op in ops if op["op_name"] != _DELEGATE]
    taken = {index for delegate in delegates for index in _inside(delegate, own)}
    return Division(len(delegates), own, [op for op in own if op["index"] not in taken])


def kernel_family(interpreter: Any) -> str:
    """Which kernels compute: `XNNPACK`, `built-in kernels`, or both with the share of operations."""
    found = division(interpreter)
    count = len(found.operations)
    taken = count - len(found.left)
    if not taken:
        return BUILT_IN
    return XNNPACK if taken == count else f"{XNNPACK} ({taken} of {count} operations) and {BUILT_IN}"


def _inside(delegate: dict[str, Any], ops: list[dict[str, Any]]) -> set[int]:
    """Ops between a partition's outputs and its inputs: the interpreter lists replaced ops beside their delegate."""
    writers = {int(tensor): op for op in ops for tensor in op["outputs"]}
    border = {int(tensor) for tensor in delegate["inputs"]}
    found: set[int] = set()
    waiting = [int(tensor) for tensor in delegate["outputs"]]
    while waiting:
        op = writers.get(waiting.pop())
        if op is not None and op["index"] not in found:
            found.add(op["index"])
            waiting += [int(tensor) for tensor in op["inputs"] if int(tensor) not in border]
    return found
