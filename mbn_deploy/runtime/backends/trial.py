"""Try a model file once in a child process before it is opened in this one.

Interpreters are C++: they crash on some broken files, compute for hours, or take all memory. No list of checks
foresees all of that, but a process can be ended. So a file that no manifest vouches for is opened and run once in a
child process with limits; a crash, a hang or too much memory becomes an `InputError`. What passed is remembered by its
hash, the interpreter and its version, so that the next opening costs a hash.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import FileFormat, TensorInfo
from mbn_deploy.runtime.backends import check_model, open_backend
from mbn_deploy.runtime.backends.modules import backend_version, preload
from mbn_deploy.runtime.formats.outline import read_outline
from mbn_deploy.runtime.system.cache import cache_file, read_records, write_records
from mbn_deploy.runtime.system.child import ChildError, ChildProcess, mentions_memory

T = TypeVar("T")

MOST_MEMORY = 3 * 2**29  # bytes of address space, beside what Python and the interpreter's code take
MOST_SECONDS = 20
# What a file may take by what it claims: so much in any case, and so much for each byte of the file and of its input.
# Interpreters copy and repack weights, and what flows through a network is some tens of times its input.
_LEAST_MEMORY, _PER_FILE_BYTE, _PER_INPUT_BYTE = 2**29, 8, 64
_LEAST_SECONDS, _FILE_BYTES_A_SECOND, _INPUT_BYTES_A_SECOND = 5, 2**20, 2**18
_INPUT_WIDTH = 4  # bytes of a value: float32
_STARTING_SECONDS = 120.0  # to start Python and to import an interpreter, on a slow board that has other work
_KEPT = 2000  # records; the oldest are dropped
_REASONS_TO_TRUST = ("memory limit", "time limit")  # a sound file may have these, if it is unusually large
_TRUST = "if you know where the file comes from, open it with --trust (in Python: isolate=False)"


@dataclass(frozen=True)
class TrialLimits:
    """What a trial may take: bytes of memory, seconds of processor time, and seconds until the answer."""

    memory: int = MOST_MEMORY
    cpu_seconds: int = MOST_SECONDS
    seconds: float = MOST_SECONDS


@dataclass(frozen=True)
class TrialRecord:
    """A trial that was passed: the hash of the file, the program that took it, its version, and the processor."""

    sha256: str
    tool: str
    version: str
    machine: str


_passed: set[TrialRecord] = set()  # by this process, which may not be able to write into the cache


def try_model(
    data: bytes,
    file_format: FileFormat,
    *,
    name: str,
    where: str,
    digest: str | None = None,
    limits: TrialLimits | None = None,
) -> None:
    """Open a model file with the interpreter `name` in a child process and run it once; return if all went well.

    The file's structure is checked first, in this process, since that gives better messages. A file that passed before
    is not tried again.

    Args:
        data: the file's bytes.
        file_format: their format.
        name: the interpreter's name.
        where: the file's name in errors.
        digest: the SHA-256 of `data`, if it is known.
        limits: what the file may take; by default this follows from its size and that of its input.

    Raises:
        InputError: the file is damaged, or the interpreter refuses it, crashes on it, or takes more time or memory than
            the limits allow.
        UsageError: no child process can be started.
        MissingExtraError: the interpreter is not installed.
    """
    record = record_of(digest or sha256(data), name, backend_version(name))
    if was_passed(record):
        return
    check_model(data, file_format, where)
    call_limited(
        run_once,
        data,
        file_format,
        name,
        where,
        interpreter=name,
        limits=limits or limits_of(data, file_format, where),
        where=where,
    )
    keep_passed(record)


def run_once(data: bytes, file_format: FileFormat, name: str, where: str) -> None:
    """Open a file in this process, the child, run it once and close it; raises the errors of `open_backend`."""
    backend = open_backend(data, file_format, name=name, threads=1, where=where, vouched=True)
    backend.run(_values(backend.input))
    backend.close()  # what wrote beyond its memory is often noticed only when that is freed


def call_limited(function: Callable[..., T], *arguments: Any, interpreter: str, limits: TrialLimits, where: str) -> T:
    """Call a function once in a child process that has the interpreter imported, and let the process end by itself.

    Raises:
        MbnError: the function raised it.
        InputError: the process crashed, or reached a limit.
        UsageError: no child process can be started.
    """
    try:
        child = ChildProcess()
    except ChildError as error:
        raise _not_started(where, error) from error
    with child:
        try:
            child.call(preload, (interpreter,), seconds=_STARTING_SECONDS)
        except ChildError as error:
            raise _not_started(where, error) from error
        try:
            answer = child.call(function, *arguments, **asdict(limits))
            child.finish(limits.seconds)
        except InputError as error:  # some interpreters survive that memory is refused, and tell it in their own way
            if not mentions_memory(str(error)):
                raise
            allowed = f"more memory than {limits.memory / 2**20:.0f} MiB"
            raise InputError(
                f"{where}: {interpreter}, tried in a process of its own, needs {allowed}; {_TRUST}"
            ) from error
        except ChildError as error:
            advice = f"; {_TRUST}" if error.reason in _REASONS_TO_TRUST else ""
            raise InputError(f"{where}: {interpreter}, tried in a process of its own, {error}{advice}") from error
    return answer


def limits_of(data: bytes, file_format: FileFormat, where: str) -> TrialLimits:
    """Return the limits for a file by its size and by the input that it claims; raises `InputError` for damage."""
    shapes = [tensor.shape or () for tensor in read_outline(data, file_format, where).inputs]
    claimed = _INPUT_WIDTH * sum(math.prod(max(1, n) for n in shape) for shape in shapes)
    memory = _LEAST_MEMORY + _PER_FILE_BYTE * len(data) + _PER_INPUT_BYTE * claimed
    seconds = _LEAST_SECONDS + len(data) // _FILE_BYTES_A_SECOND + claimed // _INPUT_BYTES_A_SECOND
    return TrialLimits(memory=min(memory, MOST_MEMORY), cpu_seconds=min(seconds, MOST_SECONDS))


def record_of(digest: str, tool: str, version: str | None) -> TrialRecord:
    """Return the record that the trial of a file with this SHA-256 would leave."""
    return TrialRecord(digest, tool, version or "unknown", platform.machine())


def was_passed(record: TrialRecord) -> bool:
    """Return whether this process or the user's cache remembers a trial that was passed."""
    if record not in _passed and asdict(record) not in read_records(cache_file("trials.json")):
        return False
    _passed.add(record)
    return True


def keep_passed(record: TrialRecord) -> None:
    """Remember a trial that was passed; a cache that cannot be written costs another trial in the next process."""
    _passed.add(record)
    path = cache_file("trials.json")
    if path is not None:
        kept = [other for other in read_records(path) if other != asdict(record)]
        write_records(path, [*kept, asdict(record)][-_KEPT:])


def _values(info: TensorInfo) -> Array:
    """Return an input: floats in [0, 1], or integers from 0 on, as a picture has them."""
    steps = np.arange(math.prod(info.shape)) % 127
    scale = 126 if np.dtype(info.dtype).kind == "f" else 1
    return np.asarray(steps / scale).astype(info.dtype).reshape(info.shape)


def _not_started(where: str, error: ChildError) -> UsageError:
    return UsageError(
        f"{where}: no manifest vouches for this file, so it is tried in a child process first, which {error}; {_TRUST}"
    )
