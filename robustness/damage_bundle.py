"""A bundle in memory, to be damaged, with its size and checksums put right afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from damage_model import EditedModel, open_model

from mbn_deploy.hashing import sha256

Json = dict[str, Any]


@dataclass
class Damaged:
    """The files of a bundle while they are damaged.

    Attributes:
        manifest: the content of manifest.json.
        target: the name of the model file that is damaged.
        files: the bytes of every file that the manifest names.
        others: bytes of other files of the same format, by name, that somebody might exchange the target for.
    """

    manifest: Json
    target: str
    files: dict[str, bytes]
    others: dict[str, bytes] = field(default_factory=dict)

    @property
    def entry(self) -> Json:
        """The manifest's entry of the target."""
        return next(each for each in self.manifest["files"] if each["path"] == self.target)

    @property
    def labels(self) -> list[str]:
        """The labels in the bundle's labels file."""
        return self.files[self.manifest["labels"]].decode().splitlines()

    def put_labels(self, labels: list[str]) -> None:
        """Replace the labels file."""
        self.files[self.manifest["labels"]] = ("\n".join(labels) + "\n").encode()

    def open(self) -> EditedModel:
        """Open the target."""
        return open_model(self.files[self.target], self.entry["format"])

    def put(self, model: EditedModel) -> None:
        """Replace the target."""
        self.files[self.target] = model.finish()

    def settle(self) -> None:
        """Write sizes and checksums into the manifest, as a tool does that rebuilds a bundle. Golden vectors stay."""
        for entry in self.manifest["files"]:
            data = self.files[entry["path"]]
            entry["size"], entry["sha256"] = len(data), sha256(data)
        if self.manifest["labels"] is not None:
            self.manifest["labels_sha256"] = sha256(self.files[self.manifest["labels"]])
