"""Run a model file in a forked process with bounds, by this package or by a bare interpreter; say how it ended.

A fork has all modules imported already, so that a file costs some milliseconds and not the second that a new process
takes. `forked_children` lets the package fork its own child processes, too: same function, same pipes, same limits.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

OUTCOMES = ("answer", "error", "crash", "hang", "memory", "bug")
BAD = OUTCOMES[2:]
_MEMORY_WORDS = ("bad_alloc", "failed to allocate", "cannot allocate", "bad allocation", "out of memory", "MemoryError")
_WATCH = 0.1  # seconds between two looks at a process's memory
_ALARMS = (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
Action = Callable[[], tuple[str, str]]


@dataclass(frozen=True)
class Bounds:
    """What a process may take.

    Attributes:
        peak: bytes of resident memory, its children's included, above which it counts as grown.
        mapped: bytes of address space beside what it had; protects the machine, far above `peak`.
        processor: seconds of processor time.
        wall: seconds until it is ended whatever it does.
    """

    peak: int
    mapped: int
    processor: int
    wall: int


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        outcome: one of `OUTCOMES`.
        detail: the signal, or the text of the error.
        peak: bytes of resident memory, of the process or of one of its children.
        seconds: of wall time.
    """

    outcome: str
    detail: str
    peak: int
    seconds: float


def import_all(*interpreters: str) -> None:
    """Import what a run needs, these interpreters among it, before processes are forked.

    What there is by then is hidden from the garbage collector, which would copy all of it in every process.
    """
    import mbn_deploy.runtime.backends.interpreter
    import mbn_deploy.runtime.backends.isolated
    import mbn_deploy.runtime.backends.onnx
    import mbn_deploy.runtime.backends.trial
    import mbn_deploy.runtime.classifier
    import mbn_deploy.runtime.untrusted.onnx_check
    import mbn_deploy.runtime.untrusted.tflite_check  # noqa: F401
    from mbn_deploy.runtime.backends.modules import preload

    preload(interpreters or ("litert", "onnx"))
    gc.collect()
    gc.freeze()


def run_ours(path: str, **options: Any) -> tuple[str, str]:
    """Open a file with `Classifier.open` and classify one picture, as `run FILE PICTURE` does."""
    from mbn_deploy.errors import MbnError
    from mbn_deploy.runtime import Classifier

    try:
        with Classifier.open(path, threads=1, resize="squash", preprocess="unit", **options) as opened:
            opened.answer(np.full((32, 32, 3), 99, np.uint8))
    except MbnError as error:
        return "error", f"{type(error).__name__}: {error}"
    return "answer", ""


def run_command(path: Path, picture: Path) -> tuple[str, str]:
    """Run the installed command on a file and a picture, in a process that replaces this one's only child."""
    import subprocess

    command = [sys.executable, "-c", _COMMAND, "run", str(path), str(picture), "--resize", "squash"]
    ended = subprocess.run([*command, "--preprocess", "unit"], capture_output=True, check=False)
    code = ended.returncode
    if code < 0:
        return "crash", signal.Signals(-code).name
    words = ended.stderr.decode(errors="replace").strip()
    return {0: "answer", 2: "error", 3: "error"}.get(code, "bug"), f"{_EXITS.get(code, code)}: {words}"


_COMMAND = "import sys; from mbn_deploy.cli.main import main; sys.exit(main())"
_EXITS = {0: "", 2: "UsageError", 3: "InputError"}


def run_bare(path: str, file_format: str) -> tuple[str, str]:
    """Open a file with the interpreter alone and run it on ones."""
    data = Path(path).read_bytes()
    try:
        if file_format == "tflite":
            _bare_tflite(data)
        else:
            _bare_onnx(data)
    except Exception as error:  # noqa: BLE001 (an exception is a clean end, whatever its kind)
        text = f"{type(error).__name__}: {error}"
        return ("memory" if any(word in text for word in _MEMORY_WORDS) else "error"), text
    return "answer", ""


def _bare_tflite(data: bytes) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    for source in interpreter.get_input_details():
        interpreter.set_tensor(source["index"], np.ones(source["shape"], source["dtype"]))
    interpreter.invoke()
    for result in interpreter.get_output_details():
        interpreter.get_tensor(result["index"])


_ONNX_TYPES = {
    "float": "f4", "uint8": "u1", "int8": "i1", "double": "f8", "float16": "f2", "int32": "i4", "int64": "i8",
    "bool": "?", "uint16": "u2", "int16": "i2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip


def _bare_onnx(data: bytes) -> None:
    from mbn_deploy.runtime.backends.modules import load_interpreter

    onnxruntime = load_interpreter("onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    values = {
        source.name: np.ones(
            [n if isinstance(n, int) else 1 for n in source.shape],
            _ONNX_TYPES[source.type.removeprefix("tensor(")[:-1]],
        )
        for source in session.get_inputs()
    }
    session.run(None, values)


def bounded(action: Action, bounds: Bounds) -> Ended:
    """Run `action`, which returns (outcome, text), in a forked process with bounds."""
    return bounded_all([action], bounds)[0]


def bounded_all(actions: Sequence[Action], bounds: Bounds) -> list[Ended]:
    """Run actions one after the other in a forked process; where one ends it, the next ones get a new process."""
    ended: list[Ended] = []
    while len(ended) < len(actions):
        ended += _until_an_end(actions[len(ended) :], bounds)
    return ended


def _until_an_end(actions: Sequence[Action], bounds: Bounds) -> list[Ended]:
    """Run actions until all are done or one has ended the process; return how those ended, at least one."""
    began, (reader, writer) = time.monotonic(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(actions, bounds, writer)
    os.close(writer)
    told, grown = _listen(child, reader, bounds.peak)
    _, status, usage = os.wait4(child, 0)
    with suppress(ProcessLookupError):  # what it started and left
        os.killpg(child, signal.SIGKILL)
    peak = usage.ru_maxrss * 1024
    ended = [Ended(outcome, detail, peak, seconds) for outcome, detail, seconds in map(json.loads, told.splitlines())]
    if len(ended) < len(actions):
        outcome, detail = _outcome(status)
        ended.append(Ended("memory" if grown else outcome, detail, peak, time.monotonic() - began))
    elif peak > bounds.peak:
        if len(actions) > 1:  # which one it was is not known
            return [end for action in actions for end in _until_an_end([action], bounds)]
        ended = [replace(ended[0], outcome="memory")]
    return ended


def _listen(child: int, reader: int, most: int) -> tuple[bytes, bool]:
    """Return what a process tells until it ends, and whether it was killed since it had grown beyond `most`."""
    told = b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            if select.select([pipe], [], [], _WATCH)[0]:
                data = pipe.read(2**16)
                if not data:
                    return told, False
                told += data
                continue
            with suppress(OSError):
                if resident(child) > most:
                    os.kill(child, signal.SIGKILL)
                    return told, True


def _child(actions: Sequence[Action], bounds: Bounds, writer: int) -> None:
    try:
        os.setpgid(0, 0)
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(silent, stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + bounds.mapped,) * 2)
        for action in actions:
            began = time.monotonic()
            used = int(sum(os.times()[:2]))
            resource.setrlimit(resource.RLIMIT_CPU, (used + bounds.processor + 1, resource.RLIM_INFINITY))
            signal.alarm(bounds.wall)
            outcome, text = _told(action)
            os.write(writer, json.dumps([outcome, text[:3000], time.monotonic() - began]).encode() + b"\n")
    finally:
        os._exit(0)


def _told(action: Action) -> tuple[str, str]:
    try:
        return action()
    except MemoryError:
        return "memory", "MemoryError"
    except BaseException as error:  # noqa: BLE001 (told by the text)
        return "bug", f"{type(error).__name__}: {error}"


def resident(process: int | str = "self") -> int:
    """Return the bytes of memory that a process has now."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _outcome(status: int) -> tuple[str, str]:
    """Return how a process ended that told nothing."""
    if not os.WIFSIGNALED(status):
        return "crash", f"exit {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in list(signal.Signals) else str(number)
    return ("hang" if number in _ALARMS else "crash"), name


class _ForkedProcess:
    """The part of `subprocess.Popen` that `ChildProcess` uses, by a fork of this process."""

    def __init__(self, _: object, **__: object) -> None:
        pipes = [os.pipe() for _ in range(3)]
        self.pid = os.fork()
        if self.pid == 0:
            _answer_calls([pipes[0][0], pipes[1][1], pipes[2][1]])
        for end in (pipes[0][0], pipes[1][1], pipes[2][1]):
            os.close(end)
        self.stdin = os.fdopen(pipes[0][1], "wb")
        self.stdout, self.stderr = os.fdopen(pipes[1][0], "rb"), os.fdopen(pipes[2][0], "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, None if it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        from subprocess import TimeoutExpired

        last = time.monotonic() + (timeout or 600)
        while self.poll() is None:
            if time.monotonic() > last:
                raise TimeoutExpired("fork", timeout or 600)
            time.sleep(0.001)
        return self.returncode or 0

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _answer_calls(ends: list[int]) -> None:
    """Do what `python -c "...; main()"` does in a child process of the package."""
    from mbn_deploy.runtime.system import child

    try:
        os.setsid()
        for stream, end in enumerate(ends):
            os.dup2(end, stream)
        os.closerange(3, 256)
        signal.alarm(0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (the old one has a buffer)
        child.main()
    finally:
        os._exit(0)


@contextmanager
def forked_children() -> Iterator[None]:
    """Let `ChildProcess` fork this process instead of starting Python anew."""
    with mock.patch("mbn_deploy.runtime.system.child.subprocess.Popen", _ForkedProcess):
        yield
