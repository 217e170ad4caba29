"""Read how a quantized file of a bundle rescales channels, which the export recorded beside the golden vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mbn_deploy.diagnose.model_file import DiagnosedModel
from mbn_deploy.errors import InputError
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.verify.golden import open_golden


def recorded_rescalings(quantized: DiagnosedModel, *folders: Path) -> Mapping[str, Rescaling]:
    """Return the rescalings of the first bundle among `folders` that the file belongs to, by its sha256.

    A file of another maker rescales nothing.

    Raises:
        InputError: the bundle is damaged, or this program made the file and no bundle has a record of it.
    """
    digest = sha256(quantized.data)
    for folder in dict.fromkeys(folders):
        if not (folder / MANIFEST_NAME).is_file():
            continue
        bundle, golden = open_golden(folder, check_files=False)
        precisions = [entry.precision for entry in bundle.manifest.files if entry.sha256 == digest]
        if precisions and precisions[0] in golden.rescalings:
            return golden.rescalings[precisions[0]]
    if quantized.described:
        raise InputError(
            f"{quantized.where}: its export recorded in golden.npz how channels were rescaled, and without that its "
            "layers cannot be compared. Give the file, or the reference, inside the exported bundle; a bundle of an "
            "older version must be exported again"
        )
    return {}
