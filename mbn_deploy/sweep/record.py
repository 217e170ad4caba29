"""What is kept of a variant beside its bundle: with which request it was made, and whether that went well."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, VerificationError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.sweep.plan import RECORDS, Job

Status = Literal["made", "done", "failed"]


@dataclass(frozen=True)
class Record:
    """`made` is a bundle whose evaluation is still missing. `seconds` are of every step of the export.

    `exit_code` is what the command `export` would have ended with; `manifest` the sha256 of the bundle's manifest,
    `None` without a bundle. A verdict of the accuracy guard (5) may leave a bundle of the other files.
    """

    name: str
    fingerprint: str
    status: Status
    manifest: str | None = None
    error: str | None = None
    exit_code: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"no status: {self.status!r}")


def record_path(job: Job) -> Path:
    """Where the job's record lies."""
    return job.root / RECORDS / f"{job.variant.name}.json"


def write_record(job: Job, record: Record) -> None:
    """Replace the job's record, or leave what was there; raises `InputError`."""
    path = record_path(job)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    replace_file(path, (json.dumps(asdict(record), indent=1, sort_keys=True) + "\n").encode())


def manifest_hash(folder: Path) -> str | None:
    """sha256 of the bundle's manifest, `None` where there is none."""
    path = folder / MANIFEST_NAME
    return sha256(path.read_bytes()) if path.is_file() else None


def finished_record(job: Job) -> Record | None:
    """The record of what need not be made again, with a bundle that is whole; else `None`.

    A failure is tried again, but not the guard's verdict, which the same request would only repeat.
    """
    try:
        data = json.loads(record_path(job).read_bytes())
        known = {column.name: data[column.name] for column in fields(Record) if column.name in data}
        record = Record(**known | {"warnings": tuple(known.get("warnings", ()))})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    verdict = record.exit_code == VerificationError.exit_code
    if record.fingerprint != job.fingerprint or (record.status == "failed" and not verdict):
        return None
    if record.manifest is None:
        return record if verdict else None
    return record if record.manifest == manifest_hash(job.folder) and _whole(job.folder) else None


def _whole(folder: Path) -> bool:
    try:
        Bundle.read(folder)
    except InputError:
        return False
    return True


def bundle_of(job: Job, record: Record) -> Bundle | None:
    """The variant's bundle, if there is one."""
    return None if record.manifest is None else Bundle.read(job.folder)


def failed(job: Job, error: str, exit_code: int, **more: Any) -> Record:
    """The record of a failure."""
    return Record(job.variant.name, job.fingerprint, "failed", error=error, exit_code=exit_code, **more)
