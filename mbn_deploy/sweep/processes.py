"""An executor whose processes are independent: one that is killed fails its own task, and no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

from mbn_deploy.errors import InputError, MissingExtraError, UsageError
from mbn_deploy.models.keras_backend import import_keras

T = TypeVar("T")


class Processes(Executor):
    """Runs tasks in `count` spawned processes, which load the frameworks; this process need not.

    The standard pool breaks as a whole when one process is killed, as by a model that takes all memory. Here each
    process is a pool of its own. Ctrl-C also interrupts the running tasks, so that they clean up after themselves.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UsageError(f"the number of jobs must be at least 1, not {count}")
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Submit a task, see `Executor.submit`. Its future raises `InputError` if its process is killed."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def _run(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        try:
            return self._pool().submit(_interruptible, fn, args, kwargs).result()
        except BrokenProcessPool as error:
            self._own.pool.shutdown(wait=False)
            del self._own.pool
            raise InputError("the process that worked on it was killed, perhaps for lack of memory") from error

    def _pool(self) -> ProcessPoolExecutor:
        if not hasattr(self._own, "pool"):
            context = multiprocessing.get_context("spawn")
            self._own.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
            self._pools.append(self._own.pool)
        pool: ProcessPoolExecutor = self._own.pool
        return pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (inherited)
        """Shut down; with `cancel_futures`, interrupt running tasks and drop waiting ones."""
        self._threads.shutdown(wait=False, cancel_futures=cancel_futures)
        if cancel_futures:
            for child in multiprocessing.active_children():
                with suppress(ProcessLookupError):
                    os.kill(child.pid or 0, signal.SIGINT)
        self._threads.shutdown(wait=wait)
        for pool in self._pools:
            pool.shutdown(wait=wait)

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for all tasks; after an exception, such as Ctrl-C, stop them."""
        self.shutdown(cancel_futures=kind is not None)


def _begin() -> None:
    """Set up a process: it ignores Ctrl-C between tasks, and imports Keras without TensorFlow's startup messages."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    kept, dropped = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(dropped, 2)
    try:
        with suppress(MissingExtraError):
            import_keras("to build models")  # so that it is quiet later
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(dropped)


def _end_with_parent() -> None:
    """End this process when its parent has ended: one that was killed cannot stop it, and it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _interruptible(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Call `fn` so that Ctrl-C raises `KeyboardInterrupt` in it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return fn(*args, **kwargs)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
