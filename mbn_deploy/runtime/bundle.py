"""Reading a bundle: the manifest, the labels, and model files whose checksum is right.

Files that the manifest does not name are ignored. Writing bundles is the workstation's part.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import MANIFEST_NAME, Manifest, ModelFile
from mbn_deploy.runtime.labels import parse_labels

LARGEST_FILE = 2**31  # bytes: offsets of both model formats end there
LARGEST_TEXT = 2**26  # of a manifest or labels

_EDITED = "it was changed after the export, or damaged; export again or copy the bundle again"


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle's folder, its manifest, and its labels (index = class)."""

    folder: Path
    manifest: Manifest = field(repr=False)
    labels: tuple[str, ...] | None = field(repr=False)


def open_bundle(folder: str | PathLike[str], *, check_files: bool = True) -> OpenedBundle:
    """Read and check `folder`: manifest.json, labels, and with `check_files` size and sha256 of every model file.

    Raises `InputError` that names the file at fault.
    """
    where = Path(folder)
    if not where.is_dir():
        raise InputError(f"{where}: {'a file; a bundle is a folder' if where.exists() else 'no such folder'}")
    manifest = Manifest.from_json(read_file(where / MANIFEST_NAME, LARGEST_TEXT), str(where / MANIFEST_NAME))
    labels = None
    if manifest.labels is not None:
        path = where / manifest.labels
        labels = parse_labels(_checked(path, manifest.labels_sha256), str(path))
    if labels is not None and len(labels) != manifest.classes:
        raise InputError(f"{where / MANIFEST_NAME}: {manifest.classes} classes, but {len(labels)} labels")
    if check_files:
        for entry in manifest.files:
            check_file(where, entry)
    return OpenedBundle(where, manifest, labels)


def check_file(folder: str | PathLike[str], entry: ModelFile) -> bytes:
    """The model file's bytes, if size and sha256 are what the manifest says; else `InputError`."""
    path = Path(folder) / entry.path
    data = read_file(path)
    if len(data) != entry.size:
        raise InputError(f"{path}: {len(data)} bytes, the manifest says {entry.size}: {_EDITED}")
    return _verified(path, data, entry.sha256)


def read_file(path: Path, limit: int = LARGEST_FILE) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; raises `InputError` that says why not.

    A pipe would be waited for without end, and a device read without end.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
            raise InputError(f"{path}: a pipe or a device, not a file")
        if facts.st_size > limit:
            raise InputError(f"{path}: {facts.st_size} bytes, more than the {limit} that are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not a file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _checked(path: Path, sha256: str | None) -> bytes:
    if sha256 is None and path.is_symlink():
        raise InputError(f"{path}: a link, and the manifest has no sha256 of what it should lead to")
    data = read_file(path, LARGEST_TEXT)
    return data if sha256 is None else _verified(path, data, sha256)


def _verified(path: Path, data: bytes, sha256: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise InputError(f"{path}: sha256 is {found[:12]}…, the manifest says {sha256[:12]}…: {_EDITED}")
    return data
