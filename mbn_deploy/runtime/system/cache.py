"""Small lists of records in the user's cache folder, as JSON (XDG Base Directory Specification 0.8).

A cache is never needed: what is damaged, of another version or unreadable counts as empty.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.system.temporary import replace_file

_VERSION = 1  # of the files' form


def cache_file(name: str) -> Path | None:
    """Return the file of that name in the cache folder; None without a home folder."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if folder and Path(folder).is_absolute():  # the specification has relative paths ignored
        return Path(folder) / "mbn-deploy" / name
    try:
        return Path.home() / ".cache/mbn-deploy" / name
    except RuntimeError:
        return None


def read_records(path: Path | None) -> list[Any]:
    """Return a file's records, unchecked, none if there is no file; a damaged one is logged and ignored."""
    if path is None:
        return []
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict) or data.get("schema_version") != _VERSION:
            return _ignored(path, f"not of version {_VERSION}")
        return list(data["records"])
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return _ignored(path, error.strerror or str(error))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _ignored(path, "damaged")


def write_records(path: Path, records: Sequence[Any]) -> str | None:
    """Replace a file's records, all or nothing. Returns why they could not be kept, or None."""
    text = json.dumps({"schema_version": _VERSION, "records": list(records)}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    except InputError as error:
        return str(error)
    return None


def _ignored(path: Path, why: str) -> list[Any]:
    logging.getLogger(__name__).warning("%s is ignored (%s); it is written anew when it is needed", path, why)
    return []
