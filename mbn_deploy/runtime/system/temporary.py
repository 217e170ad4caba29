"""Temporary files and folders that no process leaves behind for good, not even one that is killed.

A process holds a lock (flock(2)) on each that it works in; the lock ends with the process, however that ends. One
that can be locked is stale, and the next run removes it. Systems without such locks (Windows) remove none.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mbn_deploy.errors import InputError

NEW, OLD = ".tmp", ".old"  # what will take the place of a file or folder, and what had it
_RANDOM_BYTES = 4  # in a name
_ATTEMPTS = 100
_REASONS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "no space left"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "no permission to write there"),
}


def temporary_sibling(target: Path, suffix: str = NEW) -> Path:
    """Return a new name in the folder of `target`: hidden, and of this run alone."""
    return target.with_name(f".{target.name}.{secrets.token_hex(_RANDOM_BYTES)}{suffix}")


def sibling_pattern(name: str, suffix: str = NEW) -> str:
    """Return the pattern, for glob and fnmatch, of the names that `temporary_sibling` gives to siblings of `name`."""
    return f".{glob.escape(name)}.{'[0-9a-f]' * (2 * _RANDOM_BYTES)}{suffix}"


@contextmanager
def locked(create: Callable[[], Path]) -> Iterator[Path]:
    """Create a file or folder and hold its lock during the block, so that no other process takes it for stale.

    Another process may do so in the instant before the lock; then one more is created.
    """
    path, descriptor = _create_locked(create)
    try:
        yield path
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _create_locked(create: Callable[[], Path]) -> tuple[Path, int | None]:
    for _ in range(_ATTEMPTS):
        path = create()
        with suppress(BlockingIOError, FileNotFoundError):
            return path, _lock(path)
    raise OSError(errno.EBUSY, "another process removes it again and again", str(path))


def _lock(path: Path) -> int | None:
    """Lock `path` and return the descriptor that holds the lock; None if the system has no locks.

    Raises `BlockingIOError` if another process holds the lock, `FileNotFoundError` if the path is gone.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):
            raise FileNotFoundError(path)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, (BlockingIOError, FileNotFoundError)):
            raise
        return None
    return descriptor


def stale(parent: Path, pattern: str) -> Iterator[Path]:
    """Yield this user's files and folders in `parent` that match and that no process holds; each is locked meanwhile.

    Those that cannot be looked at are left out.
    """
    with suppress(OSError):
        for path in sorted(parent.glob(pattern)):
            descriptor = None
            with suppress(OSError):
                descriptor = _lock(path) if _is_own(path) else None
            if descriptor is not None:
                try:
                    yield path
                finally:
                    os.close(descriptor)


def _is_own(path: Path) -> bool:
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        return False
    return hasattr(os, "geteuid") and path.lstat().st_uid == os.geteuid()


def remove_stale(parent: Path, pattern: str) -> None:
    """Remove the stale files and folders in `parent` that match."""
    for path in stale(parent, pattern):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Yield an empty folder among the system's temporary ones, with `kind` in its name; remove it after the block.

    Those of killed runs are removed first. Raises `InputError` if no folder can be created.
    """
    prefix = f"mbn-deploy-{kind}-"
    with locked(lambda: _temporary_folder(prefix)) as folder:
        try:
            yield folder
        finally:
            remove(folder)


def _temporary_folder(prefix: str) -> Path:
    try:
        parent = Path(tempfile.gettempdir())
        remove_stale(parent, f"{prefix}*")
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise InputError(f"no temporary folder can be created: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new, empty file that becomes `path` in one step if the block succeeds, and is removed if it does not.

    Raises `InputError` if it cannot be created or written; the old file stays then.
    """
    try:
        remove_stale(path.parent, sibling_pattern(path.name))
        with locked(lambda: _empty_file(temporary_sibling(path))) as new:
            try:
                yield new
                _flush(new)
                new.replace(path)
            finally:
                remove(new)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {write_problem(error)}") from error


def _empty_file(path: Path) -> Path:
    path.open("xb").close()
    return path


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` as the whole of `path`, or leave the old file there and raise `InputError`."""
    with replacing(path) as new:
        new.write_bytes(data)


def write_problem(error: OSError) -> str:
    """Say in a few words why something could not be written."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)
