"""Choose the files of a bundle for an Android package, and check that the app's interpreter can use them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.packages.android.runtimes import AndroidRuntime
from mbn_deploy.packages.contents import listed_files
from mbn_deploy.packages.phone import check_takes_one_picture
from mbn_deploy.runtime.file_choice import preference

# aapt leaves out what begins with a dot or ends with ~, and only these letters need no quoting anywhere.
_ASSET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


class PictureFormat(NamedTuple):
    """The conversion of a picture to a model's pixels: the input's size, and how the picture is resized to it."""

    height: int
    width: int
    channels: int
    resize: str
    crop_fraction: float
    filter: str
    kept_centre: float | None


def picture_format(entry: ModelFile) -> PictureFormat:
    """Return how a picture is prepared for a model file."""
    preprocess = entry.preprocess
    height, width, channels = entry.picture
    return PictureFormat(
        height=height,
        width=width,
        channels=channels,
        resize=preprocess.resize,
        crop_fraction=preprocess.crop_fraction,
        filter=preprocess.filter,
        kept_centre=preprocess.kept_centre,
    )


def choose_files(bundle: Bundle, runtime: AndroidRuntime, precisions: Sequence[str]) -> tuple[ModelFile, ...]:
    """Return the bundle's files of these precisions, in their order; without any, the one that suits phones best.

    Raises:
        UnknownNameError: a precision that the bundle lacks.
        UsageError: a file that the runtime or the generated code cannot use.
        InputError: a file that an app cannot hold.
    """
    by_precision = {entry.precision: entry for entry in bundle.files if entry.format == runtime.format}
    if not by_precision:
        raise UsageError(
            f"{bundle.folder}: {runtime.name} runs .{runtime.format} files; the bundle has {listed_files(bundle)}"
        )
    for name in precisions:
        if name not in by_precision:
            raise UnknownNameError(f"precision of .{runtime.format} files", name, sorted(by_precision))
    best = min(by_precision, key=lambda name: (preference(name), name))
    files = tuple(by_precision[name] for name in dict.fromkeys(precisions or [best]))
    for entry in files:
        _check(bundle, entry, runtime)
        _check_same_pictures(bundle, entry, files[0])
    if len({asset_name(entry) for entry in files}) < len(files):
        names = ", ".join(entry.path for entry in files)
        raise InputError(f"{bundle.folder}: {names} would have the same name in an app")
    return files


def asset_name(entry: ModelFile) -> str:
    """Return the file's name in an app, which has only one dot.

    aapt2 takes everything behind the first dot for the extension, so that `-0 .tflite` would not keep
    `v1_0.25_int8.tflite` from being compressed.
    """
    stem, _, extension = entry.path.rpartition(".")
    return f"{stem.replace('.', '_')}.{extension}"


def _check(bundle: Bundle, entry: ModelFile, runtime: AndroidRuntime) -> None:
    where = bundle.path(entry)
    if not _ASSET_NAME.fullmatch(entry.path):
        raise InputError(
            f"{where}: this name cannot be an asset; export again, with a --name of letters, digits, . _ + and -"
        )
    check_takes_one_picture(bundle, entry)
    if entry.input.dtype not in runtime.inputs:
        usable = " or ".join(sorted(runtime.inputs))
        raise UsageError(
            f"{where}: {runtime.name} cannot be given {entry.input.dtype} input, only {usable}; "
            "export with --input uint8"
        )
    if entry.output.dtype not in runtime.outputs:
        raise UsageError(
            f"{where}: {runtime.name} cannot return {entry.output.dtype} output; choose another --precision"
        )
    if runtime.name == "mediapipe":
        _check_mediapipe(bundle, entry)


def _check_mediapipe(bundle: Bundle, entry: ModelFile) -> None:
    """Check what MediaPipe's ImageClassifier does by itself and cannot be told to do otherwise."""
    where, preprocess = bundle.path(entry), entry.preprocess
    instead = "use --runtime litert"
    if preprocess.resize in ("letterbox", "keras-pad"):
        raise UsageError(f"{where}: MediaPipe's ImageClassifier cannot letterbox pictures; {instead}")
    if bundle.manifest.answers.meaning not in ("classes", "labels"):
        raise UsageError(
            f"{where}: MediaPipe's ImageClassifier knows classes and labels; this model answers with "
            f"{bundle.manifest.answers.meaning}; {instead}"
        )
    if bundle.manifest.scores == "logits":
        raise UsageError(f"{where}: MediaPipe returns logits as they are, not probabilities; {instead}")
    if entry.input.shape[3] != 3:
        raise UsageError(f"{where}: MediaPipe's ImageClassifier takes only colour pictures; {instead}")
    if preprocess.channels != "rgb" or len(set(preprocess.mean)) > 1 or len(set(preprocess.std)) > 1:
        raise UsageError(
            f"{where}: MediaPipe normalizes RGB with one mean and one deviation for all channels; {instead}"
        )


def _check_same_pictures(bundle: Bundle, entry: ModelFile, first: ModelFile) -> None:
    """Check that one class can prepare pictures for both files."""
    if picture_format(entry) != picture_format(first):
        raise UsageError(
            f"{bundle.folder}: {entry.path} and {first.path} need pictures of different sizes or resized differently; "
            "make a package for each (--precision)"
        )


def download_warnings(bundle: Bundle, files: Sequence[ModelFile]) -> tuple[str, ...]:
    """Return what makes the app's download larger than it need be."""
    warnings = []
    if len(files) > 1:
        total = sum(entry.size for entry in files)
        smallest = min(files, key=lambda entry: entry.size)
        warnings.append(
            f"{len(files)} models add {_megabytes(total)} to the download; {smallest.precision} alone adds "
            f"{_megabytes(smallest.size)}"
        )
    compact = [e for e in bundle.files if e.format == files[0].format and e.precision in ("int8", "float16")]
    for entry in files:
        best = min(compact, key=lambda e: e.size, default=entry)
        if entry.precision == "float32" and best.size < entry.size and best not in files:
            warnings.append(
                f"float32 adds {_megabytes(entry.size)} to the download; the bundle's {best.precision} adds "
                f"{_megabytes(best.size)}"
            )
    return tuple(warnings)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
