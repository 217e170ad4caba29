"""Read files of any origin."""

from __future__ import annotations

import stat
from pathlib import Path

from mbn_deploy.errors import InputError

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
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not a file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
