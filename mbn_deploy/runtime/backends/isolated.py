"""An interpreter in a process of its own, for files of unknown origin.

What the file does to its interpreter stays there: a crash, a hang or growth without end becomes an `InputError`. The
two processes speak in frames: the length of a JSON head (4 bytes, little endian), the head, and `size` bytes behind
it. Nothing is pickled, and what the child says is measured before it is believed. This holds damaged files; it is no
sandbox against code that was made to take the child over: it runs as the same user.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from typing import IO, Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError, MbnError, MissingExtraError, UsageError
from mbn_deploy.manifest import FileFormat, TensorInfo
from mbn_deploy.runtime.backends import choose_backend, default_threads, open_backend
from mbn_deploy.runtime.system.child import child_command

SECONDS = 60.0  # for opening, and for each inference: a hundred times what the slowest board needs
# Bytes of address space beside what the interpreter itself maps; threads reserve much and use little.
MEMORY = 2 * 2**30
_LARGEST_HEAD, _LARGEST_BODY = 2**20, 2**28
_DTYPES = frozenset({"float32", "float16", "float64", "uint8", "int8", "int16"})


class IsolatedBackend:
    """A model file in a child process. See `Backend`."""

    def __init__(
        self, data: bytes, file_format: FileFormat, name: str, threads: int, where: str,
        *, seconds: float = SECONDS, memory: int = MEMORY,
    ) -> None:  # fmt: skip
        if find_spec("resource") is None:
            raise UsageError("a process with bounds on its memory needs Linux or another Unix")
        if len(data) > _LARGEST_BODY:
            size, most = (f"{count / 1e6:.0f} MB" for count in (len(data), _LARGEST_BODY))
            raise InputError(f"{where}: {size}; a process of its own takes files of {most} at most")
        self.name, self.threads, self._where, self._seconds = name, threads, where, seconds
        self._memory = memory
        try:
            self._child = subprocess.Popen(  # noqa: S603 (no shell, our own command)
                child_command(__name__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise UsageError(f"no process of its own can be started for {where}: {error}") from error
        try:
            head = {"format": file_format, "name": name, "threads": threads, "where": where, "memory": memory}
            said, body = self._asked(head, data)
            self.input, self.output = _tensor(said["input"]), _tensor(said["output"])
            self.kernels = str(said["kernels"])
            self.metadata: Mapping[str, bytes] = _parts(said["metadata"], body)
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise InputError(f"{where}: the process that opened it answers nonsense: {error}") from None
        except BaseException:
            self.close()
            raise

    def run(self, values: Array) -> Array:
        """See `Backend`; the tensors go through a pipe."""
        if values.shape != self.input.shape or values.dtype != np.dtype(self.input.dtype):
            wanted = f"{self.input.dtype} of shape {self.input.shape}"
            raise UsageError(f"{self._where} takes {wanted}, not {values.dtype} of shape {values.shape}")
        _, body = self._asked({}, np.ascontiguousarray(values).tobytes())
        result = np.frombuffer(body, self.output.dtype)
        if result.size != np.prod(self.output.shape, dtype=np.int64):
            raise InputError(f"{self._where}: the process that runs it answers with {len(body)} bytes")
        copied: Array = result.reshape(self.output.shape).copy()
        return copied

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):  # what was not sent has nobody to read it
                if pipe is not None:
                    pipe.close()
        self._child.wait()

    def _asked(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """What the child answers; raises what it said was wrong, or what became of it."""
        if self._child.stdin is None or self._child.stdout is None or self._child.stdin.closed:
            raise UsageError("the classifier is closed")
        with _deadline(self._child, self._seconds) as late:
            try:
                send(self._child.stdin, head, body)
                answer = receive(self._child.stdout)
            except (OSError, ValueError):
                answer = None
        if answer is None:
            raise InputError(f"{self._where}: {self._fate(late=late.is_set())}")
        if "missing" in answer[0]:
            package, extra, purpose = map(str, answer[0]["missing"])
            raise MissingExtraError(package, extra, purpose)
        if "error" in answer[0]:
            raise InputError(str(answer[0]["error"]))
        return answer

    def _fate(self, *, late: bool) -> str:
        """Why there is no answer."""
        self.close()
        if late:
            return f"no answer within {self._seconds:g} s; its process was ended"
        code = self._child.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return f"{self.name} crashed on it, in a process of its own ({how}; it may use {self._memory / 2**20:.0f} MiB)"


def open_isolated(
    data: bytes, file_format: FileFormat, *, name: str | None = None, threads: int | None = None, where: str
) -> IsolatedBackend:
    """As `open_backend` of bytes, checks included, in a child process that may crash, hang and grow."""
    count = default_threads() if threads is None else threads
    if count < 1:
        raise UsageError(f"threads must be at least 1, not {count}")
    return IsolatedBackend(data, file_format, choose_backend(file_format, name), count, where)


@contextmanager
def _deadline(child: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Ends the child when the time is over, so that nobody waits for it; the event says that it was so."""
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def send(pipe: IO[bytes], head: dict[str, Any], body: bytes) -> None:
    """One frame."""
    text = json.dumps({**head, "size": len(body)}).encode()
    pipe.write(struct.pack("<I", len(text)) + text)
    pipe.write(body)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame; None where there is none. Raises `ValueError` for what is no frame."""
    length = pipe.read(4)
    if len(length) < 4:
        return None
    size = struct.unpack("<I", length)[0]
    if size > _LARGEST_HEAD:
        raise ValueError(f"a head of {size} bytes")
    head = json.loads(pipe.read(size))
    if not isinstance(head, dict) or not isinstance(head.get("size"), int) or not 0 <= head["size"] <= _LARGEST_BODY:
        raise ValueError("no head")
    body = pipe.read(head["size"])
    return (head, body) if len(body) == head["size"] else None


def _tensor(said: dict[str, Any]) -> TensorInfo:
    shape = tuple(int(n) for n in said["shape"])
    if said["dtype"] not in _DTYPES or not all(n > 0 for n in shape):
        raise ValueError(f"a tensor of type {said['dtype']} and shape {shape}")
    zero, scale = said["zero_point"], said["scale"]
    return TensorInfo(
        str(said["name"]), shape, said["dtype"],
        None if scale is None else float(scale), None if zero is None else int(zero),
    )  # fmt: skip


def _parts(sizes: dict[str, int], body: bytes) -> dict[str, bytes]:
    parts, at = {}, 0
    for name, size in sizes.items():
        parts[name] = body[at : at + size]
        at += size
    return parts


def main() -> None:
    """The child: opens the file of the first frame, and answers every frame that follows until there is none."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # interpreters print
    asked = receive(sys.stdin.buffer)
    if asked is None:
        return
    head, data = asked
    try:
        _imported(head["name"])
        _bound(head["memory"] + len(data))
        backend = open_backend(
            data, head["format"], name=head["name"], threads=head["threads"], where=head["where"]
        )  # fmt: skip
        facts: dict[str, Any] = {"input": asdict(backend.input), "output": asdict(backend.output)}
        facts |= {"kernels": backend.kernels, "metadata": {key: len(value) for key, value in backend.metadata.items()}}
        send(answers, facts, b"".join(backend.metadata.values()))
        while (asked := receive(sys.stdin.buffer)) is not None:
            values = np.frombuffer(asked[1], backend.input.dtype).reshape(backend.input.shape)
            send(answers, {}, backend.run(values).tobytes())
    except MissingExtraError as error:
        send(answers, {"missing": [error.package, error.extra, error.purpose]}, b"")
    except MbnError as error:
        send(answers, {"error": str(error)}, b"")
    except MemoryError:
        send(answers, {"error": f"{head['where']}: it needs more than {head['memory'] / 2**20:.0f} MiB"}, b"")


def _imported(name: str) -> None:
    """The interpreter's own memory is not the file's."""
    from importlib import import_module

    module = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter", "onnx": "onnxruntime"}
    with suppress(ImportError):  # whoever opens says what to install
        import_module(module[name])


def _bound(memory: int) -> None:
    """No more address space than this beside what is mapped already, no core files."""
    import resource

    with suppress(OSError):  # no /proc: nothing is known of what is mapped
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
