"""How many threads an inference takes: as told, else as measured on this kind of machine, else a rule of thumb.

`mbn-deploy benchmark --tune` measures and keeps a record for (file, interpreter and its version, kind of machine),
in the user's cache or in the bundle's manifest, from where it goes with the bundle to other machines of that kind.
A record that does not fit exactly is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.runtime.backends import backend_version, default_threads
from mbn_deploy.runtime.system.device import this_machine
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.system.temporary import replace_file

ThreadsFrom = Literal["option", "tuned", "default"]

CACHE_VERSION = 1
CACHE_LIMIT = 500  # records; the oldest go
MOST_THREADS = 1024  # what is beyond is damage
MANIFEST_KEY = "threads"

# As few threads as come within 3 % of the fastest: less than what one other busy process costs whoever needs
# all processors, and cooler.
TOLERANCE = 1.03


@dataclass(frozen=True)
class ThreadRecord:
    """The best number of threads of one file; `medians` are seconds of one inference by thread count."""

    sha256: str
    size: int
    backend: str
    version: str
    machine: str
    threads: int
    medians: dict[str, float]


def sweep(processors: int) -> tuple[int, ...]:
    """Thread counts worth measuring: each up to 8, beyond that steps of a third to a half, and all processors."""
    steps = [step for power in range(3, 11) for step in (2**power, 3 * 2 ** (power - 1))]
    counts = {*range(1, min(8, processors) + 1), *(step for step in steps if step <= processors), processors}
    return tuple(sorted(counts))


def best_count(medians: dict[int, float]) -> int:
    """The fewest threads whose median is within `TOLERANCE` of the fastest."""
    fastest = min(medians.values())
    return min(count for count, median in medians.items() if median <= fastest * TOLERANCE)


def thread_count(
    told: int | None, data: bytes, backend: str, *, sha256: str | None = None, stated: Sequence[Any] = ()
) -> tuple[int, ThreadsFrom]:
    """How many threads to open a file with, and why.

    Args:
        told: by option; wins.
        data: the file's bytes.
        backend: the interpreter's name.
        sha256: of `data`, if it is known; else it is computed, but only where a record could fit.
        stated: a manifest's records, unchecked; the user's cache wins over them.
    """
    if told is not None:
        return told, "option"
    records = [r for r in (*read_cache(), *_parsed(stated)) if r.backend == backend and r.size == len(data)]
    if records:
        digest = sha256 or hashlib.sha256(data).hexdigest()
        wanted = digest, this_machine().key, backend_version(backend)
        for record in records:
            if (record.sha256, record.machine, record.version) == wanted:
                return record.threads, "tuned"
    return default_threads(), "default"


def cache_path() -> Path | None:
    """Where records are kept; None where there is no home (XDG Base Directory Specification 0.8)."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    if told and Path(told).is_absolute():  # the specification has relative ones ignored
        return Path(told) / "mbn-deploy/threads.json"
    try:
        return Path.home() / ".cache/mbn-deploy/threads.json"
    except RuntimeError:
        return None


def read_cache() -> list[ThreadRecord]:
    """The cache's records, none where there is no file; a damaged one is named in the log and ignored."""
    path = cache_path()
    try:
        text = None if path is None else path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return _ignored(path, error.strerror or str(error))
    if text is None:
        return []
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("schema_version") != CACHE_VERSION:
            return _ignored(path, f"not of version {CACHE_VERSION}")
        return [ThreadRecord(**record) for record in data["records"] if _sound(record)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _ignored(path, "damaged")


def write_cache(records: Iterable[ThreadRecord]) -> str | None:
    """Keep `records`, in place of older ones of the same file, interpreter and machine.

    Returns why they could not be kept, or None. The file is replaced in one step.
    """
    path = cache_path()
    if path is None:
        return "there is no home folder; set XDG_CACHE_HOME"
    kept = _merged(read_cache(), list(records))[-CACHE_LIMIT:]
    text = json.dumps({"schema_version": CACHE_VERSION, "records": [asdict(r) for r in kept]}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    except InputError as error:
        return str(error)
    return None


def write_to_bundle(folder: Path, records: Iterable[ThreadRecord]) -> None:
    """Put `records` into the bundle's manifest, which keeps all else that it says.

    Raises `InputError` where it cannot be read or written.
    """
    path = folder / MANIFEST_NAME
    try:
        data = json.loads(read_file(path))
        kept = _merged(_parsed(data.get(MANIFEST_KEY) or ()), list(records))
        data[MANIFEST_KEY] = [asdict(r) for r in sorted(kept, key=lambda r: (r.sha256, r.backend, r.machine))]
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest: {error}") from None
    replace_file(path, text.encode())


def _merged(old: list[ThreadRecord], new: list[ThreadRecord]) -> list[ThreadRecord]:
    """`new` last, without what they replace: another version of the interpreter makes an older count worthless."""
    replaced = {(record.sha256, record.backend, record.machine) for record in new}
    return [r for r in old if (r.sha256, r.backend, r.machine) not in replaced] + new


def _parsed(records: Sequence[Any]) -> list[ThreadRecord]:
    """Those of a manifest's records that are sound."""
    return [ThreadRecord(**record) for record in records if _sound(record)]


def _sound(record: Any) -> bool:
    """Whether a record from a file has the fields and types that it must have, and no others."""
    if not isinstance(record, dict) or record.keys() != ThreadRecord.__dataclass_fields__.keys():
        return False
    texts = all(isinstance(record[name], str) for name in ("sha256", "backend", "version", "machine"))
    numbers = all(type(record[name]) is int for name in ("size", "threads"))
    return texts and numbers and isinstance(record["medians"], dict) and 1 <= record["threads"] <= MOST_THREADS


def _ignored(path: Path | None, why: str) -> list[ThreadRecord]:
    import logging

    logging.getLogger(__name__).warning(
        "%s: thread counts in it are ignored (%s); `mbn-deploy benchmark --tune` writes it anew", path, why
    )
    return []
