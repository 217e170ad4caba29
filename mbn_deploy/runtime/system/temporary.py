"""Temporary files and folders that no process leaves for good, not even one that is killed.

Whoever works in one holds a lock on it (flock(2)), which ends with the process however it ends. What can be locked is
nobody's, and the next run removes it. Where the system has no such locks nothing is removed.
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

NEW, OLD = ".tmp", ".old"
_BYTES = 4  # of chance in a name
_TRIES = 100  # others are in the way for an instant, if at all


def beside(target: Path, suffix: str = NEW) -> Path:
    """A name for what will take the place of `target`, or took it; in the same folder, hidden, of this run alone."""
    return target.with_name(f".{target.name}.{secrets.token_hex(_BYTES)}{suffix}")


def pattern_beside(name: str, suffix: str = NEW) -> str:
    """What `beside` makes of a target called `name`, for glob and fnmatch."""
    return f".{glob.escape(name)}.{'[0-9a-f]' * (2 * _BYTES)}{suffix}"


@contextmanager
def claimed(make: Callable[[], Path]) -> Iterator[Path]:
    """The file or folder that `make` makes, which nobody takes for an abandoned one while the block runs.

    It is made again where another process took it for one in the instant before the lock.
    """
    path, descriptor = _claim(make)
    try:
        yield path
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Nobody takes `path` for an abandoned one while the block runs, unless somebody does so already."""
    descriptor = None
    with suppress(OSError):
        descriptor = _lock(path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _claim(make: Callable[[], Path]) -> tuple[Path, int | None]:
    for _ in range(_TRIES):
        path = make()
        try:
            return path, _lock(path)
        except (FileNotFoundError, BlockingIOError):  # it is being removed
            continue
        except BaseException:
            remove(path)
            raise
    raise OSError(errno.EBUSY, "another process removes it again and again", str(path))


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock on the path; None where the system has no locks.

    Raises `BlockingIOError` where somebody else holds it, `FileNotFoundError` where the path is gone.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    os.close(descriptor)
    raise FileNotFoundError(path)


def abandoned(parent: Path, pattern: str) -> Iterator[Path]:
    """One's own files and folders in `parent` that match and that no living process holds; each held while looked at.

    What cannot be looked at is left out.
    """
    with suppress(OSError):
        for path in sorted(parent.glob(pattern)):
            descriptor = None
            with suppress(OSError):
                descriptor = _lock(path) if _own(path) else None
            if descriptor is not None:
                try:
                    yield path
                finally:
                    os.close(descriptor)


def _own(path: Path) -> bool:
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        return False
    return hasattr(os, "geteuid") and path.lstat().st_uid == os.geteuid()


def remove_abandoned(parent: Path, pattern: str) -> None:
    """Remove what `abandoned` finds."""
    for path in abandoned(parent, pattern):
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
    """An empty folder among the system's temporary ones, gone when the block ends; before it, those of killed runs go.

    `kind` is a part of its name. Raises `InputError` where none can be made.
    """
    prefix = f"mbn-deploy-{kind}-"
    with claimed(lambda: _made_folder(prefix)) as folder:
        try:
            yield folder
        finally:
            remove(folder)


def _made_folder(prefix: str) -> Path:
    try:
        parent = Path(tempfile.gettempdir())
        remove_abandoned(parent, f"{prefix}*")
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise InputError(f"no temporary folder can be made: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file that becomes `path` in one step when the block ends well, and goes if it does not.

    Raises `InputError` where it cannot be made or written; what was there stands then.
    """
    try:
        remove_abandoned(path.parent, pattern_beside(path.name))
        with claimed(lambda: _made_file(beside(path))) as new:
            try:
                yield new
                _flush(new)
                new.replace(path)
            finally:
                remove(new)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _made_file(path: Path) -> Path:
    path.open("xb").close()
    return path


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` as the whole of `path`, or leave what was there; raises `InputError`."""
    with replacing(path) as new:
        new.write_bytes(data)
