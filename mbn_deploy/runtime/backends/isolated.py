"""An interpreter in a child process, for files of unknown origin.

What a file does to its interpreter stays there: a crash, a hang or growth without end becomes an `InputError`. What
the child answers is checked before it is believed, but see `runtime.system.child`: this is no sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import FileFormat, TensorInfo
from mbn_deploy.runtime.backends import choose_backend, default_threads, open_backend
from mbn_deploy.runtime.backends.backend import Backend, check_input
from mbn_deploy.runtime.backends.modules import preload
from mbn_deploy.runtime.system.child import ChildError, ChildProcess

T = TypeVar("T")

SECONDS = 60.0  # for opening, and for each inference: a hundred times what the slowest board needs
MEMORY = 2 * 2**30  # bytes of address space for the file's interpreter; threads reserve much and use little
_DTYPES = frozenset({"float32", "float16", "float64", "uint8", "int8", "int16"})


class IsolatedBackend:
    """A model file in a child process. See `Backend`.

    `seconds` limits opening and each inference, `memory` the bytes of address space beside what Python and the
    interpreter's code take and twice the file's size.
    """

    def __init__(
        self,
        data: bytes,
        file_format: FileFormat,
        name: str,
        threads: int,
        where: str,
        *,
        seconds: float = SECONDS,
        memory: int = MEMORY,
    ) -> None:
        if find_spec("resource") is None:
            raise UsageError("a child process with a limit on its memory needs Linux or another Unix")
        self.name, self.threads, self._where, self._seconds = name, threads, where, seconds
        try:
            self._child = ChildProcess()
        except ChildError as error:
            raise UsageError(f"{where}: the process that is to run it {error}") from error
        try:
            # Imported before the limit is set, so that the interpreter's own memory does not count against the file's.
            self._call(preload, (name,))
            facts = self._call(open_in_child, data, file_format, name, threads, where, memory=memory + 2 * len(data))
            self.input, self.output = _tensor(facts["input"]), _tensor(facts["output"])
            self.kernels = str(facts["kernels"])
            self.metadata: Mapping[str, bytes] = {str(key): bytes(value) for key, value in facts["metadata"]}
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise InputError(f"{where}: the process that opened it gave a wrong answer: {error}") from None
        except BaseException:
            self.close()
            raise

    def run(self, values: Array) -> Array:
        """Send the tensor through a pipe; see `Backend`."""
        check_input(self.input, values, self._where)
        result = self._call(run_in_child, values)
        expected = self.output.shape, np.dtype(self.output.dtype)
        if not isinstance(result, np.ndarray) or (result.shape, result.dtype) != expected:
            raise InputError(f"{self._where}: the process that runs it gave a wrong answer")
        return result

    @property
    def pid(self) -> int:
        """The number of the child process."""
        return self._child.pid

    def close(self) -> None:
        """End the child process."""
        self._child.close()

    def _call(self, function: Callable[..., T], *arguments: Any, memory: int | None = None) -> T:
        if self._child.closed:
            raise UsageError("the classifier is closed")
        try:
            return self._child.call(function, *arguments, seconds=self._seconds, memory=memory)
        except ChildError as error:
            raise InputError(f"{self._where}: {self.name}, in a process of its own, {error}") from error


def open_isolated(
    data: bytes, file_format: FileFormat, *, name: str | None = None, threads: int | None = None, where: str
) -> IsolatedBackend:
    """Open bytes as `open_backend` does, checks included, in a child process that may crash, hang and grow."""
    count = default_threads() if threads is None else threads
    if count < 1:
        raise UsageError(f"threads must be at least 1, not {count}")
    return IsolatedBackend(data, file_format, choose_backend(file_format, name), count, where)


def _tensor(facts: dict[str, Any]) -> TensorInfo:
    """Return the description of a tensor that the child gave, if it can be one."""
    shape, scale, zero_point = tuple(map(int, facts["shape"])), facts["scale"], facts["zero_point"]
    if facts["dtype"] not in _DTYPES or not all(n > 0 for n in shape):
        raise ValueError(f"a tensor of type {facts['dtype']} and shape {shape}")
    return TensorInfo(
        name=str(facts["name"]),
        shape=shape,
        dtype=facts["dtype"],
        scale=None if scale is None else float(scale),
        zero_point=None if zero_point is None else int(zero_point),
    )


_opened: list[Backend] = []  # in the child: the file that it runs


def open_in_child(data: bytes, file_format: FileFormat, name: str, threads: int, where: str) -> dict[str, Any]:
    """Open a file and keep it for `run_in_child`; return what `IsolatedBackend` says of it."""
    backend = open_backend(data, file_format, name=name, threads=threads, where=where)
    _opened[:] = [backend]
    return {
        "input": asdict(backend.input),
        "output": asdict(backend.output),
        "kernels": backend.kernels,
        "metadata": list(backend.metadata.items()),
    }


def run_in_child(values: Array) -> Array:
    """Run the file that was opened."""
    return _opened[0].run(values)
