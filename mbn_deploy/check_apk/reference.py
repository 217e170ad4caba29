"""What models should be: the manifest of a bundle, on the disk or beside the models in the archive."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.check_apk.archive import ZipArchive
from mbn_deploy.check_apk.report import Finding, Matched
from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME, Manifest, ModelFile
from mbn_deploy.runtime.bundle import open_bundle
from mbn_deploy.runtime.labels import parse_labels

_TEXT_LIMIT = 4 * 2**20  # bytes of a manifest or a labels file
_SIGNS = (b'"schema_version"', b'"sha256"')  # other programs have files of this name, too


@dataclass(frozen=True)
class Reference:
    """A manifest, where it was found, and the labels of its bundle."""

    where: str
    manifest: Manifest
    labels: tuple[str, ...] | None

    def match(self, name: str, digest: str) -> tuple[Matched, ModelFile | None]:
        """How a file compares to those of the manifest: by sha256, else by name."""
        for entry in self.manifest.files:
            if entry.sha256 == digest:
                return "equal", entry
        for entry in self.manifest.files:
            if entry.path == posixpath.basename(name):
                return "differs", entry
        return "unknown", None


def bundle_reference(folder: Path) -> Reference:
    """That of a bundle, whose files are checked first. Raises `InputError`."""
    opened = open_bundle(folder)
    return Reference(str(folder), opened.manifest, opened.labels)


def reference_beside(archive: ZipArchive, folder: str) -> tuple[Reference | None, list[Finding]]:
    """That of a manifest in the same folder of the archive, and what is wrong with it or with its labels file."""
    name = posixpath.join(folder, MANIFEST_NAME)
    entry = archive.entries.get(name)
    if entry is None or entry.size > _TEXT_LIMIT:
        return None, []
    data = archive.read(entry, _TEXT_LIMIT)
    if not all(sign in data for sign in _SIGNS):
        return None, []
    try:
        manifest = Manifest.from_json(data, "it")
    except InputError as error:
        return None, [Finding("problem", name, f"cannot be read: {error}", "put the bundle's own manifest there")]
    if manifest.labels is None:
        return Reference(name, manifest, None), []
    labels, finding = _labels_beside(archive, folder, manifest)
    return Reference(name, manifest, labels), finding


def _labels_beside(
    archive: ZipArchive, folder: str, manifest: Manifest
) -> tuple[tuple[str, ...] | None, list[Finding]]:  # fmt: skip
    name = posixpath.join(folder, manifest.labels or "")
    data = read_text(archive, name)
    if data is None:
        return None, [Finding("note", name, "is named by the manifest beside the models, but is not there")]
    if manifest.labels_sha256 not in (None, sha256(data)):
        text = "is not the labels file of the manifest beside it: the sha256 differs"
        return None, [Finding("problem", name, text, "take labels, models and manifest from one bundle")]
    try:
        return parse_labels(data, "it"), []
    except InputError as error:
        return None, [Finding("problem", name, f"cannot be read: {error}", "take the bundle's own labels")]


def read_text(archive: ZipArchive, name: str) -> bytes | None:
    """A small file of the archive; None where it is not there, or too large for a text."""
    entry = archive.entries.get(name)
    return None if entry is None or entry.size > _TEXT_LIMIT else archive.read(entry, _TEXT_LIMIT)
