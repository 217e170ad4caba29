"""A single operation of a model file, and an opened file whose operations are run one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mbn_deploy.arrays import Array


@dataclass(frozen=True)
class Operation:
    """`kind` as the format calls it, `name` of what it writes."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


class Operations(Protocol):
    """An opened file, operations in the order in which they run."""

    operations: tuple[Operation, ...]

    def run(self, values: Array) -> list[Array]:
        """The result of each operation for the file's input `values`: copies."""
