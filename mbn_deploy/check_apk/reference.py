"""The manifest that models are compared with: a bundle's on the disk, or the one beside them in the archive."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.check_apk.archive import ZipArchive
from mbn_deploy.check_apk.report import Finding, Match
from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME, Manifest, ModelFile
from mbn_deploy.runtime.bundle import open_bundle
from mbn_deploy.runtime.labels import parse_labels

TEXT_LIMIT = 4 * 2**20  # bytes of a manifest or a labels file
_OUR_KEYS = (b'"schema_version"', b'"sha256"')  # other programs have a manifest.json, too


@dataclass(frozen=True)
class Reference:
    """A manifest, the folder or file that it is from, and the labels of its bundle."""

    where: str
    manifest: Manifest
    labels: tuple[str, ...] | None

    def match(self, name: str, digest: str) -> tuple[Match, ModelFile | None]:
        """Find the manifest's file for a model in the archive: by sha256, else by name."""
        for entry in self.manifest.files:
            if entry.sha256 == digest:
                return "equal", entry
        for entry in self.manifest.files:
            if entry.path == posixpath.basename(name):
                return "differs", entry
        return "unknown", None


def bundle_reference(folder: Path) -> Reference:
    """Open a bundle and check its files; raises `InputError` for a damaged one."""
    opened = open_bundle(folder)
    return Reference(str(folder), opened.manifest, opened.labels)


class References:
    """The bundles that an archive's models are compared with; `findings` collects wrong manifests and labels."""

    def __init__(self, archive: ZipArchive, bundle: Reference | None) -> None:
        """Compare with `bundle`, or without it with the manifests in the archive."""
        self.bundle = bundle
        self.findings: list[Finding] = []
        self._archive = archive
        self._beside: dict[str, Reference | None] = {}

    def of(self, folder: str) -> Reference | None:
        """Return what the models of a folder are compared with; None if there is no manifest."""
        return self.bundle or self.beside(folder)

    def used(self) -> list[Reference]:
        """Return the bundle, or without it the manifests in the archive that were asked for so far."""
        return [found for found in (self.bundle, *self._beside.values()) if found is not None]

    def beside(self, folder: str) -> Reference | None:
        """Return the reference that lies in a folder of the archive; None there, and whenever a bundle was given."""
        if self.bundle is None and folder not in self._beside:
            self._beside[folder], findings = _reference_beside(self._archive, folder)
            self.findings += findings
        return self._beside.get(folder)


def _reference_beside(archive: ZipArchive, folder: str) -> tuple[Reference | None, list[Finding]]:
    name = posixpath.join(folder, MANIFEST_NAME)
    data = read_text(archive, name)
    if data is None or not all(key in data for key in _OUR_KEYS):
        return None, []
    try:
        manifest = Manifest.from_json(data, "it")
    except InputError as error:
        return None, [Finding("problem", name, f"cannot be read: {error}", "use the bundle's own manifest")]
    if manifest.labels is None:
        return Reference(name, manifest, None), []
    labels, findings = _labels_beside(archive, folder, manifest.labels, manifest.labels_sha256)
    return Reference(name, manifest, labels), findings


def _labels_beside(
    archive: ZipArchive, folder: str, file_name: str, digest: str | None
) -> tuple[tuple[str, ...] | None, list[Finding]]:
    name = posixpath.join(folder, file_name)
    data = read_text(archive, name)
    if data is None:
        return None, [Finding("note", name, "is missing, though the manifest beside the models names it")]
    if digest not in (None, sha256(data)):
        text = "is not the labels file of the manifest beside it: the sha256 differs"
        return None, [Finding("problem", name, text, "take labels, models and manifest from one bundle")]
    try:
        return parse_labels(data, "it"), []
    except InputError as error:
        return None, [Finding("problem", name, f"cannot be read: {error}", "use the bundle's own labels")]


def read_text(archive: ZipArchive, name: str) -> bytes | None:
    """Return a small file of the archive; None if it is missing, or too large for a manifest or labels."""
    entry = archive.entries.get(name)
    return None if entry is None or entry.file_size > TEXT_LIMIT else archive.read(entry, TEXT_LIMIT)
