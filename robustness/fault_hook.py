"""Ends this process, or lets a system call fail, at the N-th change of a file below some folders.

Python tells an audit hook (PEP 578) of every file that is opened, folder made, name moved or removed, just before the
system call. Counting these makes "killed in the middle of writing" a number that can be tried one after the other,
where a clock mostly misses the few milliseconds in which files are written.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Event: where its arguments have paths, and the descriptors of the folders that these are relative to.
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
}
_CREATING = frozenset({"open", "os.mkdir", "os.rename", "os.link", "os.symlink"})
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_SCREEN = 2**20  # bytes that a run may print


@dataclass(frozen=True)
class Fault:
    """The fault that happens at change number `at` (from 0).

    `number` is that of a signal's delivery or an error: with `kind` "kill" the process ends by SIGKILL, with "kill
    later" it ends `delay` seconds after the change began; with "error" the system call fails with errno `number`, and
    every one after it if it `lasts`; "none" only counts.
    """

    kind: str = "none"
    at: int = 0
    delay: float = 0.0
    number: int = 0
    lasts: bool = False


class Counter:
    """A number that a killed child leaves to its parent; processes that are no forks of each other share a file."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._memory = mmap.mmap(-1, 8)
            return
        with path.open("ab+") as file:
            file.truncate(8)
            self._memory = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        """The number of changes that were begun."""
        return int(struct.unpack("q", self._memory[:8])[0])

    @value.setter
    def value(self, count: int) -> None:
        self._memory[:8] = struct.pack("q", count)


def arm(folders: Sequence[Path], fault: Fault, counter: Counter) -> None:
    """Watch this process from now on; it cannot be undone."""
    inside = tuple(str(folder.resolve()) for folder in folders)
    counter.value = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not _changes(event, arguments, inside):
            return
        number = counter.value
        counter.value = number + 1
        if number == fault.at or (number > fault.at and fault.lasts):
            _act(event, fault)

    sys.addaudithook(hook)


def _changes(event: str, arguments: tuple[Any, ...], inside: tuple[str, ...]) -> bool:
    if event == "ctypes.dlsym":
        return bool(arguments[1] == "renameat2")  # the exchange of two folders comes next
    if event == "open":
        flags = arguments[2] or 0
        # A folder is opened to flush it: what was written before lies in it by then.
        return bool(flags & (_WRITING | os.O_DIRECTORY)) and _inside(arguments[0], None, inside)
    return any(
        _inside(arguments[path], None if folder is None else arguments[folder], inside)
        for path, folder in _CHANGES.get(event, ())
    )


def _inside(path: Any, folder: int | None, inside: tuple[str, ...]) -> bool:
    if isinstance(path, int):
        return False
    name = os.fsdecode(path)
    if not os.path.isabs(name):  # noqa: PTH117 (also called while the interpreter starts)
        above = os.getcwd() if folder is None or folder < 0 else os.readlink(f"/proc/self/fd/{folder}")  # noqa: PTH109, PTH115
        name = os.path.join(above, name)  # noqa: PTH118
    return name.startswith(inside)


def _act(event: str, fault: Fault) -> None:
    if fault.kind == "kill":
        _kill_all(0)
    elif fault.kind == "kill later" and multiprocessing.parent_process() is not None:
        threading.Thread(target=_kill_all, args=(fault.delay,), daemon=True).start()
    elif fault.kind == "kill later":  # SIGALRM, which nobody handles here, ends a process as SIGKILL does
        signal.setitimer(signal.ITIMER_REAL, fault.delay)
    elif fault.kind == "error" and (fault.number != errno.ENOSPC or event in _CREATING) and event != "ctypes.dlsym":
        raise OSError(fault.number, os.strerror(fault.number))


def _kill_all(delay: float) -> None:
    """Kill this process and those that it was started by and started, which are the group that `in_child` made."""
    time.sleep(delay)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def in_child(work: Callable[[], None]) -> tuple[int, str]:
    """Run `work` in a fork that is a process group of its own: how it ended, and the last that it printed.

    An exit code, or the negative number of the signal. What is left of the group is killed with it.
    """
    reading, writing = os.pipe()  # and no file, which could not grow where files may not
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _SCREEN)
    child = os.fork()
    if child == 0:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for stream in (1, 2):
            os.dup2(writing, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", errors="backslashreplace") for stream in (1, 2))
        _end_with(work)
    os.close(writing)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.set_blocking(reading, False)  # what is there: a grandchild in a group of its own may keep the pipe open
    said = b""
    with suppress(BlockingIOError):
        said = os.read(reading, _SCREEN)
    os.close(reading)
    return status, said.decode("utf-8", "replace")


def _end_with(work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 (what a bug looks like is for the parent to see)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
