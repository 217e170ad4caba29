"""The protocol that every interpreter is behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import TensorInfo


class Backend(Protocol):
    """An opened model file with one input and one output.

    It is not thread-safe: one call at a time. `input.shape` and `output.shape` are the shapes that `run` takes and
    returns; a batch axis that the file leaves open is 1.
    """

    name: str
    threads: int
    input: TensorInfo
    output: TensorInfo
    metadata: Mapping[str, bytes]  # entries of the file by name, such as its `Description`

    @property
    def kernels(self) -> str:
        """The implementation that computes: a delegate's, the interpreter's own, or an execution provider's."""

    def run(self, values: Array) -> Array:
        """Run the file on `values` of exactly the input's shape and dtype; return a copy of the output."""

    def close(self) -> None:
        """Free the interpreter; `run` must not be called again."""


def check_input(info: TensorInfo, values: Array, where: str) -> None:
    """Raise `UsageError` if `values` do not have exactly the shape and dtype of a file's input."""
    if values.shape != info.shape or values.dtype != info.dtype:
        raise UsageError(
            f"{where} takes {info.dtype} of shape {info.shape}, not {values.dtype} of shape {values.shape}"
        )


def check_output(info: TensorInfo, values: Array, where: str) -> None:
    """Raise `InputError` if a file's answer has not exactly the shape and dtype that it declares."""
    if values.shape != info.shape or values.dtype != info.dtype:
        raise InputError(
            f"{where}: damaged: it declares {info.dtype} answers of shape {info.shape}, and answered with "
            f"{values.dtype} of shape {values.shape}"
        )


def check_size(what: str, info: TensorInfo, where: str) -> None:
    """Raise `InputError` for an input or output that holds no numbers; `what` says which of them it is."""
    if not info.shape or min(info.shape) < 1:
        raise InputError(
            f"{where}: its {what} {info.name!r} has shape {info.shape}; that of a classifier has at least one number "
            "for each picture"
        )
