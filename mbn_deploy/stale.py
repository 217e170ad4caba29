"""Temporary folders that outlive a process that was killed, and how the next one tells them from those in use.

Whoever works in a folder holds a lock on it (flock(2)), which ends with the process however it ends. A folder that
can be locked is nobody's. Where the system has no such locks nothing is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock on the folder; None where somebody else does, or there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Nobody takes `folder` for a stale one while the block runs."""
    descriptor = _locked(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_stale(parent: Path, pattern: str) -> None:
    """Remove one's own folders in `parent` that match and that no living process holds."""
    with suppress(OSError):
        for folder in sorted(parent.glob(pattern)):
            descriptor = _locked(folder) if _own(folder) else None
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _own(folder: Path) -> bool:
    return hasattr(os, "geteuid") and folder.lstat().st_uid == os.geteuid()
