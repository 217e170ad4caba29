"""Write a folder so that it appears complete or not at all, whatever happens in between.

The files go into a new folder beside the target and are flushed to the disk; then one rename puts it in the target's
place, or exchanges it for the folder that is there. A failure before that leaves the old folder, and the new one is
removed; if the process was killed, the next run removes it (see `runtime.system.temporary`).

Where folders cannot be exchanged (network disks, systems other than Linux), the old one has another name for an
instant. If the process is killed in it, the next run restores the old folder before anything else.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.system.temporary import (
    OLD,
    locked,
    remove,
    remove_stale,
    sibling_pattern,
    stale,
    temporary_sibling,
    write_problem,
)

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


def write_folder_atomically(folder: Path, files: Mapping[str, bytes], *, executable: Collection[str] = ()) -> None:
    """Write `files` (by relative path with `/`) as the whole content of `folder`, which may exist.

    Those in `executable` may be run. Raises `InputError` for a full disk or a missing permission; the old folder is
    there then, and nothing of the new one.
    """
    target = folder.resolve()
    new_parents = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target.parent, sibling_pattern(target.name))
        with locked(lambda: _empty_folder(temporary_sibling(target))) as staging:
            try:
                _fill(staging, files, executable)
                put_in_place(staging, target)
            finally:
                remove(staging)  # the new files after a failure, the old ones after success
        with suppress(OSError):  # the folder is there; this only makes its name survive a power cut
            _flush_folder(target.parent)
    except OSError as error:
        size = sum(map(len, files.values())) / 1e6
        raise InputError(
            f"{folder} ({size:.1f} MB) cannot be written: {write_problem(error)}; nothing was changed"
        ) from error
    finally:
        for parent in new_parents:  # innermost first
            with suppress(OSError):  # was not created, or is in use: by the folder itself after success
                parent.rmdir()


def check_place(folder: Path) -> Path:
    """Return the whole path of a folder that may be written or replaced.

    Raises:
        UsageError: it is the root of the file system, or this process runs in it: neither can be replaced.
        InputError: no such path can exist.
    """
    try:
        target, here = folder.resolve(), Path.cwd()
        target.exists()  # whether the system takes such a name
    except (OSError, RuntimeError, ValueError) as error:  # names too long, links in a circle, a current folder removed
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: no folder can be there: {reason}") from error
    if not target.name:
        raise UsageError(f"{folder} is the root of the file system; give the name of a folder")
    if here.is_relative_to(target):
        raise UsageError(
            f"{str(folder)!r} is the folder in which this command runs, or one around it, which cannot be replaced "
            "meanwhile; give the name of another folder"
        )
    return target


def check_parent(folder: Path) -> None:
    """Raise `InputError` if nothing can be written where `folder` is, or will be when its parents are created."""
    parent = next(parent for parent in folder.resolve().parents if parent.exists())
    if not parent.is_dir():
        raise InputError(f"{folder}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no permission to write in {parent}")


def restore_interrupted(target: Path) -> None:
    """Restore the folder that a killed run had set aside, or remove that if there is a new one."""
    for aside in stale(target.parent, sibling_pattern(target.name, OLD)):
        if target.exists():
            remove(aside)
        else:
            aside.rename(target)


def _empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _fill(staging: Path, files: Mapping[str, bytes], executable: Collection[str]) -> None:
    """Write everything into `staging` and flush it to the disk."""
    for name, data in files.items():
        path = staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for name in executable:
        (staging / name).chmod((staging / name).stat().st_mode | 0o111)
    for inner in {staging, *((staging / name).parent for name in files)}:
        _flush_folder(inner)


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk (fsync(2)); Windows has no such call."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(staging: Path, target: Path) -> None:
    """Make `staging` the folder `target`; the old one, if there is one, gets the name of `staging`."""
    if not target.exists():
        staging.rename(target)
    elif not exchange_folders(staging, target):
        aside = temporary_sibling(target, OLD)
        target.rename(aside)
        try:
            staging.rename(target)
        except BaseException:
            if not target.exists():
                aside.rename(target)
            raise
        with suppress(FileNotFoundError):  # another process has removed it (`restore_interrupted`)
            aside.rename(staging)


def exchange_folders(first: Path, second: Path) -> bool:
    """Swap two folders in one step (renameat2(2)), which no crash can cut in half; False if the system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if swap is None:
        return False
    return bool(swap(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)
