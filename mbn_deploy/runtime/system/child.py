"""Call functions of this package in a fresh Python process, which may crash, hang or grow without harm to this one.

    answer = call_in_child(function, argument, seconds=20, memory=2**30)

This contains damaged files, which make interpreters (C++) abort. It is no sandbox against code that was made to take
the process over: the child runs as the same user.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal, TypeVar

from mbn_deploy import errors
from mbn_deploy.errors import MbnError
from mbn_deploy.runtime.system.messages import MessageError, read_message, write_message
from mbn_deploy.text import visible

T = TypeVar("T")
_Outcome = Literal["result", "error", "memory", "ended", "unreadable", "late"]
Reason = Literal["not started", "time limit", "memory limit", "signal", "exit", "unreadable"]

LARGEST_ANSWER = 2**28  # bytes
# The child looks for modules where this process does and nowhere else; `python -m` would look in the current folder.
_CODE = "import sys; sys.path[:] = sys.argv[1:]; from mbn_deploy.runtime.system.child import main; main()"
_TAIL = 4096  # bytes of stderr that are kept
_LONGEST_LINE = 500  # characters of it that an account quotes
_GRACE = 5.0  # seconds that a process which has closed its pipe may take to end
# What the standard library of C++, the interpreters and Python print when memory is refused.
_OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "annot allocate memory", "out of memory", "ailed to allocate")


class ChildError(Exception):
    """A child process that gave no answer, and why.

    The text is the rest of a sentence about whatever ran in the child: "crashed (signal SIGSEGV)", "gave no answer
    within 20 s". `reason` is for programs. "not started" means that this system cannot start a process (emulators,
    sandboxes): the caller may then do the work in its own process.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


def call_in_child(
    function: Callable[..., T],
    *arguments: Any,
    seconds: float | None = None,
    cpu_seconds: int | None = None,
    memory: int | None = None,
) -> T:
    """Start a process, call a function in it once, and end the process. See `ChildProcess.call`."""
    with ChildProcess() as child:
        return child.call(function, *arguments, seconds=seconds, cpu_seconds=cpu_seconds, memory=memory)


@dataclass(frozen=True)
class _Limits:
    """The limits of a call, for the account of how it ended."""

    seconds: float = 0
    cpu_seconds: int | None = None
    memory: int | None = None  # bytes

    @property
    def allowed(self) -> str:
        """The limit of memory in words."""
        return "there is" if self.memory is None else f"{self.memory / 2**20:.0f} MiB"


class ChildProcess:
    """A fresh Python process that calls functions, one at a time; a context, which ends it.

    What one call imports or keeps in its module is there in the next. Raises `ChildError` if none can be started.
    """

    _all: ClassVar[weakref.WeakSet[ChildProcess]] = weakref.WeakSet()

    def __init__(self) -> None:
        if not sys.executable or getattr(sys, "frozen", False):  # a frozen program would start itself again
            raise ChildError("not started", "could not be started: this Python does not say where its program lies")
        try:
            self._process = subprocess.Popen(  # noqa: S603 (no shell, our own command)
                child_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that what the child starts can be killed with it
            )
        except OSError as error:
            raise ChildError("not started", f"could not be started: {error.strerror or error}") from error
        self._limits = _Limits()
        self._stderr = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._all.add(self)

    def __enter__(self) -> ChildProcess:  # noqa: PYI034 (typing.Self came with Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether the process was ended, by `close` or by a call that it gave no answer to."""
        return self._process.stdin is None or self._process.stdin.closed

    def call(
        self,
        function: Callable[..., T],
        *arguments: Any,
        seconds: float | None = None,
        cpu_seconds: int | None = None,
        memory: int | None = None,
    ) -> T:
        """Call a function of a module, by the names of both, and return what it returns.

        Args:
            function: is imported in the child by its module's name.
            arguments: plain values, bytes and numpy arrays (see `write_message`); so is the result.
            seconds: the time until the answer, after which the process is killed.
            cpu_seconds: the processor time that the child may use from now on. Windows has no such limit.
            memory: the bytes of address space that the child may map, beside what it has mapped when the arguments
                have arrived and the function's module is imported. Only Linux enforces it: macOS ignores such a limit,
                Windows has none. Limits of memory and processor time stay for later calls, which can only lower them.

        Raises:
            MbnError: the function raised it, of whatever class.
            ChildError: the process ended, or was ended, without an answer. It is closed then.
        """
        if self.closed:
            raise ValueError("the child process is closed")
        self._limits = _Limits(seconds or 0, cpu_seconds, memory if memory is not None else self._limits.memory)
        request = [function.__module__, function.__qualname__, arguments, {"memory": memory, "cpu": cpu_seconds}]
        with self._deadline(seconds) as late:
            outcome, value = self._exchanged(request)
        if outcome == "result" and not late.is_set():
            result: T = value
            return result
        if outcome == "error" and not late.is_set():
            raise value
        raise self._account("late" if late.is_set() else outcome, value)

    @classmethod
    def kill_all(cls) -> None:
        """Kill the child processes of this process, and those that they started, without waiting for them."""
        for child in list(cls._all):
            with suppress(OSError):
                child._kill()  # noqa: SLF001 (its own class)

    def finish(self, seconds: float) -> None:
        """Let the process end by itself. Raises `ChildError` if it crashes then, or takes longer than `seconds`.

        What wrote beyond its memory often answers, and crashes when the memory is freed.
        """
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        outcome: _Outcome = "ended"
        try:
            if self._process.wait(seconds) == 0:
                return
        except subprocess.TimeoutExpired:
            outcome = "late"
        raise self._account(outcome, None)

    def close(self) -> None:
        """End the process, and those that it started."""
        self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not sent yet cannot be sent
                if pipe is not None:
                    pipe.close()
        self._process.wait()
        self._listener.join(_GRACE)

    def _kill(self) -> None:
        if self._process.returncode is None and hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _listen(self) -> None:
        """Keep the end of what the child writes to stderr."""
        pipe = self._process.stderr
        if pipe is None:
            return
        with pipe:
            while data := os.read(pipe.fileno(), _TAIL):
                self._stderr = (self._stderr + data)[-_TAIL:]

    @contextmanager
    def _deadline(self, seconds: float | None) -> Iterator[threading.Event]:
        """Kill the child when the time is over, so that its answer is not waited for; set the event then."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._kill()

        if seconds is None:
            yield late
            return
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _exchanged(self, request: list[Any]) -> tuple[_Outcome, Any]:
        """Send a call and wait for its answer; return the outcome, and the result or the error."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the pipes were asked for")
        try:
            write_message(self._process.stdin, request)
            return _checked(read_message(self._process.stdout, LARGEST_ANSWER))
        except (OSError, EOFError):
            return "ended", None
        except MessageError as error:
            return "unreadable", error

    def _account(self, outcome: _Outcome, problem: object) -> ChildError:
        """End the process, and say why it gave no answer."""
        if outcome == "ended":  # it is about to end by itself
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
        self.close()
        limits, code = self._limits, self._process.returncode
        if outcome == "late":
            return ChildError("time limit", f"gave no answer within {limits.seconds:g} s")
        if outcome == "unreadable":
            return ChildError("unreadable", f"gave an answer that cannot be read: {problem}")
        if outcome == "memory" or (
            limits.memory is not None and mentions_memory(self._stderr.decode(errors="replace"))
        ):
            return ChildError("memory limit", f"needs more memory than {limits.allowed}")
        if code >= 0:
            shown = str(code) if code < 256 else hex(code)  # Windows gives the number of an exception
            return ChildError("exit", f"ended without an answer (exit code {shown}){self._last_words()}")
        name = _signal_name(-code)
        if name == "SIGXCPU":
            return ChildError("time limit", f"took more than {limits.cpu_seconds} s of processor time")
        used = "" if limits.memory is None else f"; it may use {limits.allowed}"
        return ChildError("signal", f"crashed (signal {name}{used}){self._last_words()}")

    def _last_words(self) -> str:
        said = self._stderr.decode(errors="replace").splitlines()
        lines = [
            line for line in said if line.strip() and not line.startswith("INFO")
        ]  # interpreters say what goes well
        return f": {visible(lines[-1].strip())[:_LONGEST_LINE]}" if lines else ""


def mentions_memory(text: str) -> bool:
    """Return whether a text has the words that programs use when memory is refused."""
    return any(words in text for words in _OUT_OF_MEMORY)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


def child_command() -> list[str]:
    """Return the command of a child process. It takes the folders of modules as arguments, and calls on its stdin."""
    return [sys.executable, "-c", _CODE, *sys.path]


def _checked(answer: Any) -> tuple[_Outcome, Any]:
    """Return the outcome and the value of an answer, an error as an exception; raises `MessageError`."""
    kind, value = answer if isinstance(answer, list) and len(answer) == 2 else (None, None)
    if kind == "error" and isinstance(value, list) and len(value) == 3:
        return "error", _rebuilt(*value)
    if kind in ("result", "memory"):
        return kind, value
    raise MessageError("it is neither a result nor an error")


def _rebuilt(name: str, text: str, attributes: dict[str, Any]) -> MbnError:
    """Return an error of `errors.py` as it was raised in the child."""
    kind = getattr(errors, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, MbnError) and isinstance(attributes, dict)):
        raise MessageError(f"an error of an unknown class {name!r:.40}")
    error = kind.__new__(kind)
    error.args = (str(text),)
    vars(error).update(attributes)
    return error


def main() -> None:
    """Run the child process: answer calls until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # interpreters print
    with suppress(EOFError):
        while True:
            module, name, arguments, limits = read_message(sys.stdin.buffer)
            write_message(answers, _answer(module, name, arguments, limits))


def _answer(module: str, name: str, arguments: tuple[Any, ...], limits: dict[str, int | None]) -> list[Any]:
    try:
        function = getattr(import_module(module), name)
        _limit(**limits)
        return ["result", function(*arguments)]
    except MemoryError:
        return ["memory", None]
    except MbnError as error:
        return ["error", [type(error).__name__, str(error), vars(error)]]


def _limit(memory: int | None, cpu: int | None) -> None:
    """Limit this process, as `ChildProcess.call` says; it leaves no core file, either."""
    if memory is None and cpu is None:
        return
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if cpu is not None:
        used = math.ceil(sum(os.times()[:2]))
        _lower(resource.RLIMIT_CPU, used + cpu, kill_after=1)
    if memory is not None:
        with suppress(OSError):  # no /proc: nothing is known of what is mapped
            with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (pathlib takes time to import)
                mapped = int(file.read().split()[0]) * resource.getpagesize()
            _lower(resource.RLIMIT_AS, mapped + memory)


def _lower(what: int, limit: int, *, kill_after: int = 0) -> None:
    """Set a limit, but not above the hard limit that there is: it cannot be raised."""
    import resource

    hard = resource.getrlimit(what)[1]
    most = limit + kill_after if hard == resource.RLIM_INFINITY else min(limit + kill_after, hard)
    resource.setrlimit(what, (min(limit, most), most))
