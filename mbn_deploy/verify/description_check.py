"""Compares what a bundle's manifest says of a model file with what the file says of itself.

No interpreter is needed: the description in the file's metadata and its tensors' quantization are read from its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from mbn_deploy.answers import Answers
from mbn_deploy.manifest import Description, ModelFile, Preprocess, TensorInfo
from mbn_deploy.runtime.bundle import OpenedBundle
from mbn_deploy.runtime.declaration import count_outputs
from mbn_deploy.runtime.formats.outline import OPEN, TensorOutline, read_outline
from mbn_deploy.runtime.formats.own_words import Quantization, end_quantization, own_description
from mbn_deploy.runtime.formats.tflite_file import read_metadata
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, google_metadata
from mbn_deploy.runtime.labels import parse_labels
from mbn_deploy.runtime.tensors import INTEGERS

_ROUNDING = 1e-6  # a scale is a float32 in the file, and may be a float64 in the manifest


@dataclass(frozen=True)
class Disagreement:
    """A property of a model file that the manifest states otherwise than the file itself.

    Attributes:
        file: name of the file.
        what: the property, as "labels", "input scale" or "preprocess.resize".
        manifest: its value in the manifest, or in the file of labels that the manifest names.
        own: its value in the model file.
    """

    file: str
    what: str
    manifest: str
    own: str


def check_description(bundle: OpenedBundle, entry: ModelFile, data: bytes) -> list[Disagreement]:
    """Compare an entry of the manifest with its file's bytes; return what differs.

    Compared are the model's name, precision, layout, labels, meaning of the answers and preprocessing; type, shape,
    scale and zero point of input and output; and the labels and the normalization in Google's metadata of a .tflite
    file.

    Raises:
        InputError: the file is damaged, or not of the format that the manifest says.
    """
    where = str(bundle.folder / entry.path)
    description = own_description(data, entry.format, where)
    rows = list(_ends(entry, data, where))
    if description is None:
        rows.append(("description", "a file of this export", "no description of itself"))
    else:
        rows += _described(bundle, entry, description)
    if entry.format == "tflite":
        rows += _google(bundle, entry, data, where)
    return [Disagreement(entry.path, what, manifest, own) for what, manifest, own in rows if manifest != own]


def _described(bundle: OpenedBundle, entry: ModelFile, own: Description) -> Iterator[tuple[str, str, str]]:
    """Yield each property with its value in the manifest and in the file's description."""
    manifest = bundle.manifest
    yield "model", manifest.model, own.model
    yield "precision", entry.precision, own.precision
    yield "layout", entry.layout, own.layout
    yield "answers", _answers(manifest.answers), _answers(own.answers(count_outputs(entry.output)))
    for field in fields(Preprocess):
        stated, found = getattr(entry.preprocess, field.name), getattr(own.preprocess, field.name)
        yield f"preprocess.{field.name}", str(stated), str(found)
    yield _labels(bundle.labels, _as_read(own.labels))


def _answers(answers: Answers) -> str:
    return f"{answers.meaning} ({answers.scores})"


def _as_read(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return labels as they come out of a file of labels."""
    return None if labels is None else parse_labels("\n".join(labels).encode(), "labels")


def _labels(manifest: tuple[str, ...] | None, own: tuple[str, ...] | None) -> tuple[str, str, str]:
    """Compare labels; the first one that differs stands for all."""
    if manifest is None or own is None or len(manifest) != len(own):
        return "labels", _count(manifest), _count(own)
    differing = (index for index, (a, b) in enumerate(zip(manifest, own, strict=True)) if a != b)
    first = next(differing, None)
    return ("labels", "", "") if first is None else (f"label {first}", manifest[first], own[first])


def _count(labels: tuple[str, ...] | None) -> str:
    return "none" if labels is None else f"{len(labels)} labels"


def _google(bundle: OpenedBundle, entry: ModelFile, data: bytes, where: str) -> Iterator[tuple[str, str, str]]:
    """Compare what MediaPipe and other readers of Google's metadata would take for labels and normalization."""
    metadata = read_metadata(data, where)
    if GOOGLE_KEY not in metadata:
        return
    said = google_metadata(metadata[GOOGLE_KEY], data, where)
    if said.labels is not None:
        # They have one label an output: of a binary model the positive one.
        manifest = None if bundle.labels is None else bundle.labels[-count_outputs(entry.output) :]
        what, stated, own = _labels(manifest, said.labels)
        yield f"{what} in {GOOGLE_KEY}", stated, own
    for what, stated_numbers, own_numbers in (
        ("mean", entry.preprocess.mean, said.mean),
        ("std", entry.preprocess.std, said.std),
    ):
        if own_numbers is not None and not _same_numbers(stated_numbers, own_numbers):
            yield f"preprocess.{what} in {GOOGLE_KEY}", str(stated_numbers), str(own_numbers)


def _same_numbers(stated: Sequence[float], own: Sequence[float]) -> bool:
    """Compare the numbers of the channels; one number stands for all of them."""
    count = max(len(stated), len(own))
    pairs = zip(_for_all(stated, count), _for_all(own, count), strict=False)
    return len(own) in (1, count) and all(math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=_ROUNDING) for a, b in pairs)


def _for_all(numbers: Sequence[float], count: int) -> tuple[float, ...]:
    return tuple(numbers) * count if len(numbers) == 1 else tuple(numbers)


def _ends(entry: ModelFile, data: bytes, where: str) -> Iterator[tuple[str, str, str]]:
    outline, quantization = read_outline(data, entry.format, where), end_quantization(data, entry.format, where)
    ends = (
        ("input", entry.input, outline.inputs, quantization.input),
        ("output", entry.output, outline.outputs, quantization.output),
    )
    for name, stated, tensors, own in ends:
        if len(tensors) != 1:
            yield f"number of {name}s", "1", str(len(tensors))
            continue
        yield f"{name} type", stated.dtype, tensors[0].dtype
        yield f"{name} shape", str(list(stated.shape)), str(list(_shape(stated, tensors[0])))
        # What tells the scale of an ONNX file's integer end may be something else than a DequantizeLinear.
        if own is not None or entry.format == "tflite" or stated.dtype not in INTEGERS:
            yield from _quantization(name, stated, own)


def _shape(stated: TensorInfo, own: TensorOutline) -> tuple[int, ...]:
    """Return the shape in the file, with the manifest's lengths where the file leaves them open."""
    if own.shape is None or len(own.shape) != len(stated.shape):
        return stated.shape if own.shape is None else own.shape
    return tuple(a if b == OPEN else b for a, b in zip(stated.shape, own.shape, strict=True))


def _quantization(name: str, stated: TensorInfo, own: Quantization | None) -> Iterator[tuple[str, str, str]]:
    scale = None if own is None else own.scale
    if stated.scale is None or scale is None or not math.isclose(stated.scale, scale, rel_tol=_ROUNDING):
        yield f"{name} scale", str(stated.scale), str(scale)
    yield f"{name} zero point", str(stated.zero_point), str(None if own is None else own.zero_point)
