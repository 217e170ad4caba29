"""Combine what a model file says about itself with what the caller says.

Options win over the file. What neither says is asked for in one error that names everything that is missing; nothing
is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import cast, get_args

from mbn_deploy.answers import MEANINGS, Answers, Meaning, Scores
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import (
    DESCRIPTION_KEY,
    Description,
    FileFormat,
    Layout,
    Manifest,
    ModelFile,
    Preprocess,
    Resize,
    TensorInfo,
)
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.formats.file_end import FileEnd, file_end
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, GoogleMetadata, google_metadata
from mbn_deploy.runtime.input_range import covered_range, in_words, takes_pixels
from mbn_deploy.runtime.label_files import read_labels
from mbn_deploy.runtime.labels import mismatch
from mbn_deploy.runtime.model_info import OpenOptions

CHANNELS = (1, 3)


@dataclass(frozen=True)
class Declaration:
    """The properties of a model that a manifest or a single model file declares; None for what it leaves out.

    `preprocess` is complete; with `resize_assumed`, nobody has said how images were resized in training.
    `normalization` has the right mean and std only: a uint8 input or Google's TFLite metadata imply them, but not
    how an image is resized. `end` is what the operations of a file tell that does not describe its own answers.
    """

    model: str
    input: TensorInfo
    output: TensorInfo
    precision: str = "unknown"
    answers: Answers | None = None
    end: FileEnd | None = None
    layout: Layout | None = None
    preprocess: Preprocess | None = None
    normalization: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    resize_assumed: bool = False


def manifest_declaration(manifest: Manifest, entry: ModelFile, labels: tuple[str, ...] | None) -> Declaration:
    """Return what a bundle says about one of its files."""
    return Declaration(
        model=manifest.model,
        input=entry.input,
        output=entry.output,
        precision=entry.precision,
        answers=manifest.answers,
        layout=entry.layout,
        preprocess=entry.preprocess,
        resize_assumed=manifest.source.get("resize_from") == "assumed",
        labels=labels,
    )


def count_outputs(output: TensorInfo) -> int:
    """Return how many numbers a model answers with for one image; axes of length 1 are ignored."""
    return max(output.shape[1:], default=0)


def read_declaration(backend: Backend, data: bytes, file_format: FileFormat, path: Path) -> Declaration:
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
            answers=own.answers(count_outputs(backend.output)),
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
        end=file_end(data, file_format, where),
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


def check_complete(declaration: Declaration, options: OpenOptions, where: str) -> None:
    """Raise one `UsageError` that names everything which neither the file nor the options say."""
    preprocess = _missing_preprocess(declaration, options)
    missing = [f"how an image becomes its input (give {' and '.join(preprocess)})"] if preprocess else []
    if options.scores is None and declaration.answers is None and _suggested(declaration, options) is None:
        end = "no operation that tells" if declaration.end is None else declaration.end.operation
        missing.append(f"what its outputs mean (it ends in {end}; give scores, --scores {'|'.join(MEANINGS)})")
    if missing:
        raise UsageError(f"{where} does not say {', nor '.join(missing)}")


def _missing_preprocess(declaration: Declaration, options: OpenOptions) -> list[str]:
    if declaration.preprocess is not None or isinstance(options.preprocess, Preprocess):
        return []
    missing = []
    if declaration.normalization is None and options.preprocess is None:
        covered = covered_range(declaration.input)
        range_ = "" if covered is None else f"; its {declaration.input.dtype} input covers {in_words(covered)}"
        missing.append(f"preprocess, --preprocess raw|unit|tf|torch|caffe|MEAN/STD{range_}")
    if options.resize is None:
        missing.append(f"resize, --resize {'|'.join(get_args(Resize))}")
    return missing


def choose_preprocess(declaration: Declaration, options: OpenOptions) -> Preprocess:
    """Return the preprocessing: the file's, with what the options give in its place; see `check_complete`."""
    return _override(declaration.preprocess or declaration.normalization or Preprocess(), options)


def assumed_resize(declaration: Declaration, options: OpenOptions) -> str | None:
    """Return a sentence about the way to resize, if nobody ever said it: the export assumed one."""
    given = options.resize is not None or isinstance(options.preprocess, Preprocess)
    if given or declaration.preprocess is None or not declaration.resize_assumed:
        return None
    preprocess = declaration.preprocess
    return (
        f"images are resized with {preprocess.resize} ({preprocess.resize_about}), which the export assumed: if "
        "training resized otherwise, say so with --resize, or export again with it"
    )


def choose_answers(declaration: Declaration, options: OpenOptions, where: str) -> tuple[Answers, str | None]:
    """Return what the outputs mean, and a sentence about what was assumed, if something was; see `check_complete`.

    The options win over the file's description, which wins over what its last operation tells. A dense layer or a
    convolution at the end of somebody else's file is taken for the logits of a classifier, and that is said.

    Raises `UsageError` where the outputs cannot mean what the options say.
    """
    outputs = count_outputs(declaration.output)
    suggested = declaration.answers or _suggested(declaration, options)
    if options.scores is not None:
        return _requested(options.scores, suggested, outputs, where), None
    if suggested is None:
        raise UsageError(f"{where} does not say what its outputs mean")  # `check_complete` has said more
    end = declaration.end
    if declaration.answers is None and end is not None and suggested.scores == "logits" and end.kind != "log_softmax":
        why = "" if end.kind == "linear" else ", as there are names for them"
        return suggested, (
            f"{where} ends in {end.operation}, without a softmax: its {outputs} numbers are taken for the logits of "
            f"classes{why}. If they are something else, say it with --scores"
        )
    return suggested, None


def _suggested(declaration: Declaration, options: OpenOptions) -> Answers | None:
    """Return what the last operation of a file suggests, and names for its outputs; None if they suggest nothing."""
    end, outputs = declaration.end, count_outputs(declaration.output)
    if end is None:
        return None
    if end.kind in ("softmax", "sigmoid"):
        return Answers.for_outputs("softmax" if end.kind == "softmax" else "sigmoid", outputs)
    named = options.labels is not None or declaration.labels is not None
    if end.kind == "log_softmax" or (outputs > 1 and (end.kind == "linear" or named)):
        return Answers("classes", "logits")
    return None


def _requested(meaning: str, suggested: Answers | None, outputs: int, where: str) -> Answers:
    """Return the answers of the requested meaning, for a model that ends as it is suggested."""
    ends: Scores = "logits" if suggested is None or suggested.scores == "none" else suggested.scores
    if meaning == "binary" and outputs != 1:
        raise UsageError(f"{where}: a binary model has one output, not {outputs}; say --scores classes or labels")
    numbers = meaning in ("values", "embedding") and ends != "softmax"
    try:
        return Answers(cast("Meaning", meaning), "none" if numbers else ends)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


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

    A uint8 input whose range is that of a preprocessing takes the pixels themselves: its scale and zero point say which
    real number each pixel is, which is how Google's quantized models are made. A calibrated range, int8 and float
    inputs imply nothing.
    """
    if takes_pixels(tensor):
        return Preprocess(mean=(float(tensor.zero_point or 0),), std=(1 / (tensor.scale or 1.0),))
    if google.mean is None or google.std is None:
        return None
    try:
        return Preprocess(mean=google.mean, std=google.std)
    except UsageError as error:
        raise InputError(f"{where}: {GOOGLE_KEY}: {error}") from None
