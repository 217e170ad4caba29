"""Google's TFLITE_METADATA, as MediaPipe Tasks, the LiteRT support libraries and Android Studio read it.

The schema is metadata_schema.fbs (google-ai-edge/mediapipe, mediapipe/tasks/metadata); fields are numbered in the
order of their declaration. Only fields of its version 1.0.0 are used. `runtime/formats/tflite_metadata.py` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.archives import OWNER_ONLY, zip_bytes
from mbn_deploy.export.file_types import About
from mbn_deploy.manifest import LABELS_NAME, Preprocess

IDENTIFIER = b"M001"
METADATA_KEY = "TFLITE_METADATA"
MIN_PARSER_VERSION = "1.0.0"

# Numbers of the schema's unions and enums.
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions
_AXIS_LABELS = 2  # AssociatedFileType
_RGB, _GRAYSCALE = 1, 2  # ColorSpaceType


@dataclass(frozen=True)
class ClassifierMetadata:
    """The contents of the metadata of a model of pictures.

    `size` is (height, width); `preprocess` has one mean and one standard deviation; `labels` says whether the
    labels file is packed behind the model.
    """

    name: str
    about: About
    size: tuple[int, int]
    channels: int
    preprocess: Preprocess
    answers: Answers
    labels: bool


class _Ref(NamedTuple):
    """A table, vector or string written before, by its offset."""

    offset: int


class _Byte(NamedTuple):
    value: int


class _UInt(NamedTuple):
    value: int


def encode_metadata(model: ClassifierMetadata) -> bytes:
    """Return the flatbuffer that a file's metadata hold under `METADATA_KEY`."""
    w = _TableWriter()
    image = w.table(
        name=w.text("image"),
        description=w.text("The picture, resized to the input's size."),
        dimensions=None,
        content=_image_content(w, model),
        process_units=w.tables(_normalization(w, model.preprocess)),
        stats=_image_range(w, model.preprocess),
    )
    name, description = _output_texts(model.answers)
    scores = w.table(
        name=w.text(name),
        description=w.text(description),
        dimensions=None,
        content=w.table(kind=_Byte(_FEATURE_PROPERTIES), properties=w.table()),
        process_units=None,
        stats=w.table(max=w.floats([1.0]), min=w.floats([0.0])) if model.answers.are_probabilities else None,
        files=w.tables(_labels_file(w, model.answers)) if model.labels else None,
    )
    graph = w.table(name=w.text(model.name), description=None, inputs=w.tables(image), outputs=w.tables(scores))
    about = model.about
    root = w.table(
        name=w.text(model.name),
        description=w.optional_text(about.description),
        version=w.optional_text(about.version),
        graphs=w.tables(graph),
        author=w.optional_text(about.author),
        license=w.optional_text(about.license),
        files=None,
        min_parser_version=w.text(MIN_PARSER_VERSION),
    )
    return w.finish(root)


def _output_texts(answers: Answers) -> tuple[str, str]:
    """Return the name and the description of the output tensor."""
    match answers.meaning:
        case "values":
            return "value", "Numbers of a regression."
        case "embedding":
            return "feature", "A feature vector."
    return "probability" if answers.are_probabilities else "logit", "One score a class."


def append_files(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """Append a zip archive of `files` to a .tflite file, as the format has its associated files.

    They are stored without compression, since readers map them into memory. Readers of the model ignore them.
    """
    return zip_bytes(dict(sorted(files.items())), prefix=data, mode=OWNER_ONLY) if files else data


def _image_content(w: _TableWriter, model: ClassifierMetadata) -> _Ref:
    height, width = model.size
    properties = w.table(
        color_space=_Byte(_RGB if model.channels == 3 else _GRAYSCALE),
        default_size=w.table(width=_UInt(width), height=_UInt(height)),
    )
    return w.table(kind=_Byte(_IMAGE_PROPERTIES), properties=properties)


def _normalization(w: _TableWriter, preprocess: Preprocess) -> _Ref:
    options = w.table(mean=w.floats(preprocess.mean[:1]), std=w.floats(preprocess.std[:1]))
    return w.table(kind=_Byte(_NORMALIZATION), options=options)


def _image_range(w: _TableWriter, preprocess: Preprocess) -> _Ref:
    """Write the normalized values of pixels 255 and 0."""
    mean, std = preprocess.mean[0], preprocess.std[0]
    return w.table(max=w.floats([(255 - mean) / std]), min=w.floats([-mean / std]))


def _labels_file(w: _TableWriter, answers: Answers) -> _Ref:
    line = "Line i is class i." if answers.are_scores else "Line i is value i."
    return w.table(name=w.text(LABELS_NAME), description=w.text(line), type=_Byte(_AXIS_LABELS))


class _TableWriter:
    """Writes tables of a flatbuffer, with their fields in the order of the schema; `None` leaves a field out."""

    def __init__(self) -> None:
        import flatbuffers

        self._builder: Any = flatbuffers.Builder(1024)

    def table(self, **fields: _Ref | _Byte | _UInt | None) -> _Ref:
        """Write a table. The fields are in the schema's order; their names only document the code."""
        self._builder.StartObject(len(fields))
        for slot, value in enumerate(fields.values()):
            if isinstance(value, _Ref):
                self._builder.PrependUOffsetTRelativeSlot(slot, value.offset, 0)
            elif isinstance(value, _Byte):
                self._builder.PrependUint8Slot(slot, value.value, 0)
            elif isinstance(value, _UInt):
                self._builder.PrependUint32Slot(slot, value.value, 0)
        return _Ref(self._builder.EndObject())

    def text(self, value: str) -> _Ref:
        return _Ref(self._builder.CreateString(value))

    def optional_text(self, value: str) -> _Ref | None:
        return self.text(value) if value else None

    def floats(self, values: Sequence[float]) -> _Ref:
        return _Ref(self._builder.CreateNumpyVector(np.asarray(values, np.float32)))

    def tables(self, *tables: _Ref) -> _Ref:
        self._builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self._builder.PrependUOffsetTRelative(table.offset)
        return _Ref(self._builder.EndVector())

    def finish(self, root: _Ref) -> bytes:
        self._builder.Finish(root.offset, IDENTIFIER)
        return bytes(self._builder.Output())
