"""Writing a bundle: it appears complete or not at all.

Everything goes into a new folder beside the target, is flushed to the disk, and is then put in the
target's place with one rename; a bundle that stood there is exchanged for it. Whatever goes wrong
before that leaves what was there, and takes the new folder away; of a process that was killed in
between, the next one does (see `runtime.system.temporary`).

Where folders cannot be exchanged (network disks, other systems than Linux), the old one is set aside for an
instant. If the process is killed in it, the next one puts the old one back before anything else.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME, REPORT_NAME, plain_name
from mbn_deploy.runtime.system.temporary import (
    OLD,
    abandoned,
    beside,
    claimed,
    held,
    pattern_beside,
    remove,
    remove_abandoned,
)
from mbn_deploy.text import shorten

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Whether a bundle may be written to `folder`: asked before the long work as well as after it.

    Raises `UsageError` where something stands that must not be replaced, `InputError` where nothing
    can be written.
    """
    target = folder.resolve()
    put_back(target)
    if target.exists():
        _check_replaceable(folder, target, overwrite=overwrite)
    parent = next(p for p in target.parents if p.exists())
    if not parent.is_dir():
        raise InputError(f"{folder}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no permission to write in {parent}")


def _check_replaceable(folder: Path, target: Path, *, overwrite: bool) -> None:
    if not target.is_dir():
        raise UsageError(f"{folder} is a file; a bundle is a folder")
    try:
        names = sorted(path.name for path in target.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not names:
        return
    if MANIFEST_NAME not in names:
        raise UsageError(f"{folder} is no bundle (it has no {MANIFEST_NAME}) and not empty; choose another folder")
    if not overwrite:
        raise UsageError(f"{folder} holds a bundle already; --overwrite replaces it")
    own, of_killed = _own_names(target), pattern_beside(MANIFEST_NAME)
    foreign = [name for name in names if name not in own and not fnmatchcase(name, of_killed)]
    if foreign:
        raise UsageError(
            f"{folder} holds files that are no part of its bundle ({shorten(foreign)}); move them away first"
        )


def _own_names(target: Path) -> set[str]:
    """The files that the bundle's manifest names. Lenient: bundles of other versions can be replaced too."""
    own = {MANIFEST_NAME, REPORT_NAME}
    try:
        data = json.loads((target / MANIFEST_NAME).read_bytes())
        return own | {str(data.get("labels")), str(data.get("golden")), *(str(f["path"]) for f in data["files"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return own


def write_bundle(folder: Path, files: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Write `files` (plain names) as the whole content of `folder`, all or nothing.

    Raises `UsageError` where something stands that must not be replaced, `InputError` for a full
    disk or a missing permission; nothing of the new bundle is left then.
    """
    for name in files:
        plain_name("bundle file", name)
    check_target(folder, overwrite=overwrite)
    put_folder(folder, files)


def put_folder(folder: Path, files: Mapping[str, bytes], *, executable: Collection[str] = ()) -> None:
    """Write `files` (relative paths with `/`) as the whole content of `folder`, all or nothing; no question is asked.

    Those in `executable` may be run. Raises `InputError` for a full disk or a missing permission;
    nothing of the new folder is left then.
    """
    target = folder.resolve()
    made = [p for p in target.parents if not p.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target.parent, pattern_beside(target.name))
        with claimed(lambda: _made(beside(target))) as staging:
            try:
                _fill(staging, files, executable)
                with _uninterrupted():
                    _put_in_place(staging, target)
            finally:
                with _uninterrupted():
                    remove(staging)  # the new files after a failure, the old ones after success
        with suppress(OSError):  # the folder stands; this only makes its name survive a power cut
            _flush_folder(target.parent)
    except OSError as error:
        raise _explained(folder, error, sum(map(len, files.values()))) from error
    finally:
        with _uninterrupted():
            _remove_empty(made)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def put_back(target: Path) -> None:
    """What a killed run had set aside becomes `target` again, or goes where something stands there."""
    for aside in abandoned(target.parent, pattern_beside(target.name, OLD)):
        if target.exists():
            remove(aside)
        else:
            aside.rename(target)


def _fill(staging: Path, files: Mapping[str, bytes], executable: Collection[str]) -> None:
    """Everything is in `staging`, and on the disk, when this is done."""
    for name, data in files.items():
        _write_file(staging / name, data)
    for name in executable:
        (staging / name).chmod((staging / name).stat().st_mode | 0o111)
    for inner in {staging, *((staging / name).parent for name in files)}:
        _flush_folder(inner)


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Names are on the disk only when their folder is (fsync(2)); Windows has no such call."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(staging: Path, target: Path) -> None:
    """`staging` becomes `target`; what `target` was then lies at `staging`, if it was there."""
    if not target.exists():
        staging.rename(target)
    elif not _exchange(staging, target):
        aside = beside(target, OLD)
        with held(target):  # nobody else puts it back in the instant without it
            target.rename(aside)
            try:
                staging.rename(target)
            except OSError:
                aside.rename(target)
                raise
            aside.rename(staging)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step that no crash can cut in half; False where the system cannot (renameat2(2))."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if swap is None:
        return False
    return bool(swap(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done. Signals reach Python in its main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []

    def remember(number: int, frame: Any) -> None:
        _ = frame
        pressed.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # innermost first
        with suppress(OSError):  # not made, or in use: by the bundle itself after success
            folder.rmdir()


def _explained(folder: Path, error: OSError, size: int) -> InputError:
    if error.errno in _FULL:
        reason = f"no space left for {size / 1e6:.1f} MB"
    elif error.errno in _DENIED:
        reason = "no permission to write there"
    else:
        reason = error.strerror or str(error)
    return InputError(f"{folder} cannot be written: {reason}; nothing was changed")
