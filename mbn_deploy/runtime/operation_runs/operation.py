"""An op of a model file, and the protocol of an opened file that returns the result of each of its ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mbn_deploy.arrays import Array


@dataclass(frozen=True)
class Operation:
    """An op: its `kind` in the words of the file's format, and the `name` of the tensor that it writes."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


class Operations(Protocol):
    """An opened file, with its ops in the order in which they run."""

    operations: tuple[Operation, ...]

    def run(self, values: Array) -> list[Array]:
        """Run the file on the input `values`; return a copy of each op's result, 4-D ones as NHWC."""
