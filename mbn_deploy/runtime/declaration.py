"""Combine what a model file says about itself with what the caller says.

Options win over the file. What neither says is asked for in one error that names everything that is missing; nothing
is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from mbn_deploy.answers import Answers, Meaning, Scores
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import DESCRIPTION_KEY, Description, Layout, Manifest, ModelFile, Preprocess, TensorInfo
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, GoogleMetadata, google_metadata
from mbn_deploy.runtime.label_files import read_labels
from mbn_deploy.runtime.labels import mismatch
from mbn_deploy.runtime.model_info import OpenOptions

CHANNELS = (1, 3)


@dataclass(frozen=True)
class Declaration:
    """The properties of a model that a manifest or a single model file declares; None for what it leaves out.

    `preprocess` is complete. `normalization` has the right mean and std only: a uint8 input or Google's TFLite
    metadata imply them, but not how an image is resized.
    """

    model: str
    input: TensorInfo
    output: TensorInfo
    precision: str = "unknown"
    scores: Scores = "softmax"
    meaning: Meaning | None = None
    layout: Layout | None = None
    preprocess: Preprocess | None = None
    normalization: Preprocess | None = None
    labels: tuple[str, ...] | None = None


def manifest_declaration(manifest: Manifest, entry: ModelFile, labels: tuple[str, ...] | None) -> Declaration:
    """Return what a bundle says about one of its files."""
    return Declaration(
        model=manifest.model,
        input=entry.input,
        output=entry.output,
        precision=entry.precision,
        scores=manifest.scores,
        meaning=manifest.meaning,
        layout=entry.layout,
        preprocess=entry.preprocess,
        labels=labels,
    )


def read_declaration(backend: Backend, data: bytes, path: Path) -> Declaration:
    """Read what an opened lone file says about itself: our own description, else Google's TFLite metadata.

    Raises `InputError` for damaged metadata.
    """
    where = str(path)
    if DESCRIPTION_KEY in backend.metadata:
        own = Description.from_json(backend.metadata[DESCRIPTION_KEY], where)
        return Declaration(
            model=own.model,
            input=backend.input,
            output=backend.output,
            precision=own.precision,
            scores=own.scores,
            meaning=own.meaning,
            layout=own.layout,
            preprocess=own.preprocess,
            labels=own.labels,
        )
    google = GoogleMetadata()
    if GOOGLE_KEY in backend.metadata:
        google = google_metadata(backend.metadata[GOOGLE_KEY], data, where)
    return Declaration(
        model=path.stem,
        input=backend.input,
        output=backend.output,
        normalization=_normalization(google, backend.input, where),
        labels=google.labels,
    )


def choose_layout(tensor: TensorInfo, declared: Layout | None, where: str) -> Layout:
    """Return where the channels of the input are: as declared, else where the shape has 1 or 3 (last if ambiguous).

    Raises `InputError` for a shape that is not an image's.
    """
    if len(tensor.shape) != 4:
        raise InputError(f"{where}: its input has shape {tensor.shape}; an image has four axes (N, H, W, C)")
    layout: Layout = declared or ("nhwc" if tensor.shape[3] in CHANNELS else "nchw")
    if tensor.shape[1 if layout == "nchw" else 3] not in CHANNELS:
        raise InputError(f"{where}: its input of shape {tensor.shape} is not an image with 1 or 3 channels")
    return layout


def choose_preprocess(declaration: Declaration, options: OpenOptions, where: str) -> Preprocess:
    """Return the preprocessing: the file's, with what the options give in its place.

    Raises `UsageError` that names what neither says.
    """
    if declaration.preprocess is not None:
        return _override(declaration.preprocess, options)
    if not isinstance(options.preprocess, Preprocess):
        missing = []
        if declaration.normalization is None and options.preprocess is None:
            missing.append("preprocess (--preprocess raw|unit|tf|torch|caffe|MEAN/STD)")
        if options.resize is None:
            missing.append("resize (--resize squash|crop|letterbox)")
        if missing:
            raise UsageError(
                f"{where} does not say how an image becomes its input; please give {' and '.join(missing)}"
            )
    return _override(declaration.normalization or Preprocess(), options)


def choose_labels(
    declared: tuple[str, ...] | None, options: OpenOptions, answers: Answers, outputs: int, where: str
) -> tuple[str, ...] | None:
    """Return the labels: those of the options, else the declared ones.

    Raises `InputError` where their number does not fit the model's outputs, or a labels file cannot be read.
    """
    if options.labels is None:
        labels, source = declared, where
    else:
        labels = read_labels(options.labels)
        source = str(options.labels) if isinstance(options.labels, (str, PathLike)) else "labels"
    problem = None if labels is None else mismatch(labels, answers, outputs, source)
    if problem is not None:
        raise InputError(problem)
    return labels


def _override(preprocess: Preprocess, options: OpenOptions) -> Preprocess:
    if isinstance(options.preprocess, Preprocess):
        preprocess = options.preprocess
    elif options.preprocess is not None:
        given = Preprocess.parse(options.preprocess)
        preprocess = replace(preprocess, mean=given.mean, std=given.std, channels=given.channels)
    return preprocess if options.resize is None else replace(preprocess, resize=options.resize)  # type: ignore[arg-type]


def _normalization(google: GoogleMetadata, tensor: TensorInfo, where: str) -> Preprocess | None:
    """Return the mean and std that a file implies without saying them, or None.

    A uint8 input takes the pixels themselves: its scale and zero point say which real number each pixel is, which is
    how Google's quantized models are made. int8 and float inputs imply nothing.
    """
    if tensor.dtype == "uint8":
        return Preprocess(mean=(float(tensor.zero_point or 0),), std=(1 / (tensor.scale or 1.0),))
    if google.mean is None or google.std is None:
        return None
    try:
        return Preprocess(mean=google.mean, std=google.std)
    except UsageError as error:
        raise InputError(f"{where}: {GOOGLE_KEY}: {error}") from None
