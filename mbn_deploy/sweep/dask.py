"""An existing Dask cluster as an executor."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.version import __version__

TIMEOUT = "20s"  # to reach the scheduler


@contextmanager
def dask_executor(address: str, root: Path, *, timeout: str = TIMEOUT) -> Iterator[Executor]:
    """Connect to a Dask cluster for a sweep.

    All workers must have this version of the program with the extra `export`, and see `root`, the images and the
    models under the same paths: a shared file system. They should have one thread each, since tasks in one process
    take turns. Dask gives the tasks of a lost worker to others. Anybody who reaches a scheduler can run code on its
    workers: keep it on a network that you trust, or use Dask's TLS.

    Args:
        address: where the scheduler listens, `tcp://host:8786`.
        root: the sweep's folder.
        timeout: how long to wait for the scheduler.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: no scheduler answers, it has no workers, or a worker has another version or does not see `root`.
    """
    try:
        distributed: Any = importlib.import_module("distributed")  # its functions have no types
    except ImportError as error:
        raise MissingExtraError("distributed", "dask", "for a Dask cluster") from error
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        _check(client.run(look, str(root)), address, root)
        # Not pure: with equal arguments a task may give another result, since the files in the folder may have changed.
        executor = client.get_executor(pure=False)
        try:
            yield cast("Executor", executor)
        except BaseException:
            executor.shutdown(wait=False)  # cancels the tasks
            raise


def look(root: str) -> tuple[str, bool]:
    """Return the version of the program on the worker that runs this, and whether it sees the sweep's folder."""
    return __version__, Path(root).is_dir()


def _check(found: dict[str, Any], address: str, root: Path) -> None:
    if not found:
        raise InputError(f"the Dask scheduler at {address} has no workers")
    for worker, (version, seen) in found.items():
        if version != __version__:
            raise InputError(f"worker {worker} has mbn-deploy {version}, this is {__version__}")
        if not seen:
            raise InputError(f"worker {worker} does not see {root}: a cluster needs one file system for all")
