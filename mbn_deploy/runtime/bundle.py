"""Read a bundle: its manifest, its labels, and model files with the right checksum.

Files that the manifest does not name are ignored. Bundles are written on the workstation (`mbn_deploy.bundle`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME, Manifest, ModelFile
from mbn_deploy.runtime.labels import parse_labels
from mbn_deploy.runtime.system.files import read_file

LARGEST_TEXT = 2**26  # bytes of a manifest or of labels

_CHANGED = "it was changed after the export, or is damaged; export again or copy the bundle again"


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle's folder, its manifest, and its labels by class index."""

    folder: Path
    manifest: Manifest = field(repr=False)
    labels: tuple[str, ...] | None = field(repr=False)


def open_bundle(folder: str | PathLike[str], *, check_files: bool = True) -> OpenedBundle:
    """Read and check a bundle: its manifest, its labels, and with `check_files` every model file's size and sha256.

    Raises `InputError` that names the file at fault.
    """
    where = Path(folder)
    if not where.is_dir():
        raise InputError(f"{where}: {'a file; a bundle is a folder' if where.exists() else 'no such folder'}")
    manifest = Manifest.from_json(read_file(where / MANIFEST_NAME, LARGEST_TEXT), str(where / MANIFEST_NAME))
    labels = None
    if manifest.labels is not None:
        path = where / manifest.labels
        labels = parse_labels(_read_labels(path, manifest.labels_sha256), str(path))
    if labels is not None and len(labels) not in manifest.answers.label_counts(manifest.classes):
        raise InputError(f"{where / MANIFEST_NAME}: {manifest.classes} classes, but {len(labels)} labels")
    if check_files:
        for entry in manifest.files:
            check_file(where, entry)
    return OpenedBundle(where, manifest, labels)


def check_file(folder: str | PathLike[str], entry: ModelFile) -> bytes:
    """Return the bytes of a model file.

    Raises `InputError` if its size or sha256 is not what the manifest says.
    """
    path = Path(folder) / entry.path
    data = read_file(path)
    if len(data) != entry.size:
        raise InputError(f"{path}: {len(data)} bytes, the manifest says {entry.size}: {_CHANGED}")
    return _check_sha256(path, data, entry.sha256)


def _read_labels(path: Path, expected: str | None) -> bytes:
    if expected is None and path.is_symlink():
        raise InputError(f"{path}: a symbolic link, and the manifest has no sha256 of the file it should lead to")
    data = read_file(path, LARGEST_TEXT)
    return data if expected is None else _check_sha256(path, data, expected)


def _check_sha256(path: Path, data: bytes, expected: str) -> bytes:
    actual = sha256(data)
    if actual != expected:
        raise InputError(f"{path}: sha256 is {actual[:12]}…, the manifest says {expected[:12]}…: {_CHANGED}")
    return data
