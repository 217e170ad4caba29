"""A bundle on the disk, as the workstation sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        """Open and check a bundle (sha256 of every file); raises `InputError` for a damaged one."""
        opened = open_bundle(Path(folder))
        return cls(opened.folder, opened.manifest, opened.labels)

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The model files, in the order in which they were made."""
        return self.manifest.files

    @property
    def metrics(self) -> dict[str, Any]:
        """Accuracy as measured at the export: JSON values, empty if nothing was evaluated."""
        return self.manifest.metrics

    def file(self, format: str, precision: str) -> ModelFile:  # noqa: A002 - the manifest's own word
        """Return the file of this format and precision; raises an `UnknownNameError` that lists what there is."""
        for entry in self.files:
            if (entry.format, entry.precision) == (format, precision):
                return entry
        raise UnknownNameError("file", f"{format}/{precision}", [f"{e.format}/{e.precision}" for e in self.files])

    def path(self, entry: ModelFile) -> Path:
        """Return the path of a model file."""
        return self.folder / entry.path

    def open(self, **options: Any) -> Classifier:
        """Open a `Classifier` on this bundle; options as for `Classifier.open`."""
        from mbn_deploy.runtime import Classifier

        return Classifier.open(self.folder, **options)
