"""The record of a variant, kept beside its bundle: the request that it answers, and how the export went."""

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
    """The outcome of exporting a variant.

    Attributes:
        name: name of the variant.
        fingerprint: hash of the request, see `plan.Job`.
        status: `made` if the evaluation is still missing, else `done` or `failed`.
        manifest: sha256 of the bundle's manifest; None without a bundle. A verdict of the accuracy guard (exit code 5)
            may leave a bundle of the other files.
        error: message of a failure.
        exit_code: the one that the command `export` would have ended with.
        seconds: how long each step of the export took.
        warnings: those of the export.
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
    """Return the path of the job's record."""
    return job.root / RECORDS / f"{job.variant.name}.json"


def write_record(job: Job, record: Record) -> None:
    """Replace the job's record atomically. Raises `InputError` if it cannot be written."""
    path = record_path(job)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    replace_file(path, (json.dumps(asdict(record), indent=1, sort_keys=True) + "\n").encode())


def manifest_hash(folder: Path) -> str | None:
    """Return the sha256 of the bundle's manifest; None if there is none."""
    path = folder / MANIFEST_NAME
    return sha256(path.read_bytes()) if path.is_file() else None


def finished_record(job: Job) -> Record | None:
    """Return the job's record if the variant need not be exported again; else None.

    It need not if the request is the same and the bundle is complete. A failure is tried again, unless it is a verdict
    of the accuracy guard, which the same request would repeat.
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
    return record if record.manifest == manifest_hash(job.folder) and _is_complete(job.folder) else None


def _is_complete(folder: Path) -> bool:
    try:
        Bundle.read(folder)
    except InputError:
        return False
    return True


def bundle_of(job: Job, record: Record) -> Bundle | None:
    """Open the variant's bundle, if there is one."""
    return None if record.manifest is None else Bundle.read(job.folder)


def failed(job: Job, error: str, exit_code: int, **more: Any) -> Record:
    """Return the record of a failure."""
    return Record(
        name=job.variant.name, fingerprint=job.fingerprint, status="failed", error=error, exit_code=exit_code, **more
    )
