"""Choose the number of threads of an inference: as requested, as measured on this kind of machine, or a default.

`mbn-deploy benchmark --tune` measures it and keeps a record for each file, interpreter version and kind of machine: in
the user's cache, or in the bundle's manifest, which carries it to other machines of that kind. A record is used only
if it fits exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mbn_deploy.arguments import MOST_THREADS, check_count
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.runtime.backends.modules import backend_version
from mbn_deploy.runtime.system.cache import cache_file, read_records, write_records
from mbn_deploy.runtime.system.device import this_machine
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.system.temporary import replace_file

ThreadsFrom = Literal["option", "tuned", "default"]

CACHE_LIMIT = 500  # records; the oldest are dropped
MANIFEST_KEY = "threads"

# The fewest threads within 3 % of the fastest are best: 3 % is less than what one other busy process costs a program
# that needs all processors, and fewer threads keep the board cooler.
TOLERANCE = 1.03


@dataclass(frozen=True)
class ThreadRecord:
    """The best number of threads for one file; `medians` are seconds of one inference by number of threads."""

    sha256: str
    size: int
    backend: str
    version: str
    machine: str
    threads: int
    medians: dict[str, float]


def candidate_counts(processors: int) -> tuple[int, ...]:
    """Return the numbers of threads worth measuring.

    These are all up to 8, then steps of a third to a half, and the number of processors.
    """
    steps = [step for power in range(3, 11) for step in (2**power, 3 * 2 ** (power - 1))]
    counts = {*range(1, min(8, processors) + 1), *(step for step in steps if step <= processors), processors}
    return tuple(sorted(counts))


def best_count(medians: dict[int, float]) -> int:
    """Return the fewest threads whose median is within `TOLERANCE` of the fastest."""
    fastest = min(medians.values())
    return min(count for count, median in medians.items() if median <= fastest * TOLERANCE)


def choose_thread_count(
    requested: int | None,
    data: bytes,
    backend: str,
    *,
    sha256: str,
    manifest_records: Sequence[Any] = (),
) -> tuple[int, ThreadsFrom]:
    """Return the number of threads to open a file with, and where it comes from.

    Args:
        requested: the option; it wins.
        data: the file's bytes.
        backend: the interpreter's name.
        sha256: of `data`.
        manifest_records: a manifest's records, unchecked; the user's cache wins over them.
    """
    if requested is not None:
        check_count("threads", requested, MOST_THREADS)
        return requested, "option"
    records = [r for r in (*read_cache(), *_parse(manifest_records)) if r.backend == backend and r.size == len(data)]
    if records:
        wanted = sha256, this_machine().key, backend_version(backend)
        for record in records:
            if (record.sha256, record.machine, record.version) == wanted:
                return record.threads, "tuned"
    return default_threads(), "default"


def cache_path() -> Path | None:
    """Return the file that keeps records; None without a home folder."""
    return cache_file("threads.json")


def read_cache() -> list[ThreadRecord]:
    """Return the cache's records, none if there is no cache; a damaged one is logged and ignored."""
    return _parse(read_records(cache_path()))


def write_cache(records: Iterable[ThreadRecord]) -> str | None:
    """Keep `records` in the cache, in place of older ones of the same file, interpreter and machine.

    The file is replaced atomically. Returns why they could not be kept, or None.
    """
    path = cache_path()
    if path is None:
        return "there is no home folder; set XDG_CACHE_HOME"
    return write_records(path, [asdict(r) for r in _merge(read_cache(), list(records))[-CACHE_LIMIT:]])


def write_to_bundle(folder: Path, records: Iterable[ThreadRecord]) -> None:
    """Add `records` to the bundle's manifest, which keeps everything else that it says.

    Raises `InputError` if the manifest cannot be read or written.
    """
    path = folder / MANIFEST_NAME
    try:
        data = json.loads(read_file(path))
        merged = _merge(_parse(data.get(MANIFEST_KEY) or ()), list(records))
        data[MANIFEST_KEY] = [asdict(r) for r in sorted(merged, key=lambda r: (r.sha256, r.backend, r.machine))]
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest: {error}") from None
    replace_file(path, text.encode())


def _merge(old: list[ThreadRecord], new: list[ThreadRecord]) -> list[ThreadRecord]:
    """Return `old` without the records that `new` replaces, then `new`.

    A record replaces those of other versions of the interpreter, too: their counts are worthless now.
    """
    replaced = {(record.sha256, record.backend, record.machine) for record in new}
    return [r for r in old if (r.sha256, r.backend, r.machine) not in replaced] + new


def _parse(records: Sequence[Any]) -> list[ThreadRecord]:
    """Return the valid ones of a file's records."""
    return [ThreadRecord(**record) for record in records if _is_valid(record)]


def _is_valid(record: Any) -> bool:
    """Return whether a record from a file has exactly the fields and types of a `ThreadRecord`."""
    if not isinstance(record, dict) or record.keys() != ThreadRecord.__dataclass_fields__.keys():
        return False
    texts = all(isinstance(record[name], str) for name in ("sha256", "backend", "version", "machine"))
    numbers = all(type(record[name]) is int for name in ("size", "threads"))
    return texts and numbers and isinstance(record["medians"], dict) and 1 <= record["threads"] <= MOST_THREADS
