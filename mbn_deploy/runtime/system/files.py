"""Read files of any origin."""

from __future__ import annotations

import re
import stat
from itertools import islice
from pathlib import Path

from mbn_deploy.errors import InputError

_LFS = b"version https://git-lfs.github.com/spec/"

_MOST_NAMES = 10_000  # of a folder, to look for near ones
LARGEST_FILE = 2**31  # bytes: offsets of both model formats end there


def read_file(path: Path, limit: int = LARGEST_FILE) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; raises `InputError` that says what is wrong.

    Pipes and devices are refused, since reading them may never end.
    """
    try:
        stats = path.stat()
        if not stat.S_ISREG(stats.st_mode) and not stat.S_ISDIR(stats.st_mode):
            raise InputError(f"{path}: a pipe or a device, not a file")
        if stats.st_size > limit:
            raise InputError(f"{path}: {stats.st_size} bytes, more than the {limit} that are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise missing(path) from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not a file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if (pointer := lfs_pointer(data)) is not None:
        raise InputError(f"{path} {pointer}")
    return data


def missing(path: Path, what: str = "file") -> InputError:
    """Return the error for a file or folder that is not there; it names those of nearly the same name beside it."""
    import difflib

    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), _MOST_NAMES)]
    except OSError:
        parent = "" if path.parent.exists() else f"; there is no folder {path.parent}"
        return InputError(f"{path}: no such {what}{parent}")
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
    return InputError(f"{path}: no such {what}{hint}")


def lfs_pointer(data: bytes) -> str | None:
    """Say what a file is whose content stayed behind: a pointer of Git LFS; None for any other.

    Format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    if not data.startswith(_LFS):
        return None
    size = re.search(rb"^size (\d+)", data[:1024], re.MULTILINE)
    of = f" of {int(size[1])} bytes" if size else ""
    return f"is a Git LFS pointer, not the file{of} that it stands for; fetch that with: git lfs pull"
