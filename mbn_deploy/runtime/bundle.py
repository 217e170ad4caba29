"""Reading a bundle: the manifest, the labels, and model files whose checksum is right.

Files that the manifest does not name are ignored. Writing bundles is the workstation's part.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import MANIFEST_NAME, Manifest, ModelFile
from mbn_deploy.runtime.labels import parse_labels
from mbn_deploy.runtime.system.files import read_file

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
