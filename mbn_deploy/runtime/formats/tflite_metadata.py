"""Google's TFLITE_METADATA: normalization of the input and labels of the output.

The schema is tensorflow/tflite-support's metadata_schema.fbs 1.1.0 (identifier M001); field numbers are
its declaration order. Label files lie in a zip archive that is appended to the model.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from mbn_deploy.archives import ZIP_ERRORS
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.formats.flatbuffer import Table, damage_named, root
from mbn_deploy.runtime.labels import parse_labels

GOOGLE_KEY = "TFLITE_METADATA"
GOOGLE_IDENTIFIER = b"M001"
LABELS_LIMIT = 4 * 2**20  # bytes of an unpacked labels file: a zip archive can claim to hold anything

_NORMALIZATION = 1  # ProcessUnitOptions
_AXIS_LABELS = 2  # AssociatedFileType


@dataclass(frozen=True)
class GoogleMetadata:
    """The normalization of the first input and the labels of the first output; None if they are not stated.

    x = (pixel - mean) / std, with one number or one for each channel. How images are resized is never stated.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None


def google_metadata(buffer: bytes, data: bytes, where: str) -> GoogleMetadata:
    """Read the metadata `buffer` of the file `data`; raises `InputError` if it is damaged."""
    with damage_named(f"{where}: {GOOGLE_KEY}"):
        graphs = root(buffer, GOOGLE_IDENTIFIER).tables(3)
        if not graphs:
            return GoogleMetadata()
        mean, std = _normalization(graphs[0].tables(2))
        name = _labels_name(graphs[0].tables(3))
    labels = None if name is None else parse_labels(_packed_file(data, name, where), f"{where}: {name}")
    return GoogleMetadata(mean, std, labels)


def _normalization(inputs: list[Table]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    for unit in inputs[0].tables(4) if inputs else []:
        options = unit.table(1)
        if options is not None and unit.scalar(0, "B", 0) == _NORMALIZATION:
            return options.numbers(0, "f") or None, options.numbers(1, "f") or None
    return None, None


def _labels_name(outputs: list[Table]) -> str | None:
    files = outputs[0].tables(6) if outputs else []
    return next((file.text(0) for file in files if file.scalar(2, "b", 0) == _AXIS_LABELS), None)


def _packed_file(data: bytes, name: str, where: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.getinfo(name).file_size > LABELS_LIMIT:
                raise InputError(f"{where}: the labels file {name!r} inside is larger than {LABELS_LIMIT} bytes")
            return archive.read(name)
    except ZIP_ERRORS as error:
        raise InputError(
            f"{where}: its metadata name the labels file {name!r}, which cannot be read: {error}"
        ) from None
