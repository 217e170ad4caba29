"""A bundle on disk, as the workstation sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbn_deploy.arguments import check_path
from mbn_deploy.errors import UnknownNameError
from mbn_deploy.manifest import Manifest, ModelFile
from mbn_deploy.runtime.bundle import open_bundle

if TYPE_CHECKING:
    from mbn_deploy.runtime import Classifier


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, its manifest and its labels (`None` for a model whose classes have no names)."""

    folder: Path
    manifest: Manifest = field(repr=False)
    labels: tuple[str, ...] | None = field(default=None, repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> Bundle:
        """Open a bundle and check the sha256 of every file. Raises `InputError` that names a damaged file."""
        opened = open_bundle(check_path("folder", folder))
        return cls(folder=opened.folder, manifest=opened.manifest, labels=opened.labels)

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The model files, in the order in which they were written."""
        return self.manifest.files

    @property
    def metrics(self) -> dict[str, Any]:
        """The accuracy that the export measured, as JSON values; empty if nothing was evaluated."""
        return self.manifest.metrics

    def file(self, format: str, precision: str) -> ModelFile:  # noqa: A002 - the manifest's own word
        """Return the file of a format and precision. Raises `UnknownNameError` that lists the files there are."""
        for entry in self.files:
            if (entry.format, entry.precision) == (format, precision):
                return entry
        raise UnknownNameError("file", f"{format}/{precision}", [f"{e.format}/{e.precision}" for e in self.files])

    def path(self, entry: ModelFile) -> Path:
        """Return the path of a model file."""
        return self.folder / entry.path

    def open(self, **options: Any) -> Classifier:
        """Open a `Classifier` on this bundle, with the options of `Classifier.open`."""
        from mbn_deploy.runtime import Classifier

        return Classifier.open(self.folder, **options)
