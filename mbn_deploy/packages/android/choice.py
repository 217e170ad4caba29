"""Which files of a bundle go into an Android package, and whether the chosen runtime can use them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import FileFormat, ModelFile
from mbn_deploy.runtime.file_choice import preference

# aapt leaves out what begins with a dot or ends with ~, and only these letters need no quoting anywhere.
_ASSET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_NUMBER = {"float32", "uint8", "int8"}


@dataclass(frozen=True)
class AndroidRuntime:
    """What runs the models in the app. `dependencies` are Maven coordinates; `min_sdk` is what they need."""

    name: str
    format: FileFormat
    dependencies: tuple[str, ...]
    min_sdk: int
    inputs: frozenset[str]
    outputs: frozenset[str]


# LiteRT 1.4: ai.google.dev/edge/litert/android lists it with the Interpreter and API level 21. Its 2.x line lost that
# class in 2.0.3 and has no library for 32-bit devices in 2.1.0 (google-ai-edge/LiteRT, issues 4775 and 3729);
# `litert-api` must be named beside it (2752).
# ONNX Runtime: level 24 since 1.21. MediaPipe: ai.google.dev/edge/mediapipe/solutions/setup_android.
RUNTIMES: dict[str, AndroidRuntime] = {
    "litert": AndroidRuntime(
        "litert",
        "tflite",
        ("com.google.ai.edge.litert:litert:1.4.2", "com.google.ai.edge.litert:litert-api:1.4.2"),
        21,
        frozenset(_NUMBER),
        frozenset(_NUMBER | {"int16"}),
    ),
    "mediapipe": AndroidRuntime(
        "mediapipe",
        "tflite",
        ("com.google.mediapipe:tasks-vision:0.10.29",),
        24,
        frozenset({"float32", "uint8"}),
        frozenset({"float32", "uint8"}),
    ),
    "onnx": AndroidRuntime(
        "onnx",
        "onnx",
        ("com.microsoft.onnxruntime:onnxruntime-android:1.24.3",),
        24,
        frozenset(_NUMBER),
        frozenset(_NUMBER),
    ),
}


def runtime_named(name: str) -> AndroidRuntime:
    """Raises `UnknownNameError`."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, RUNTIMES)
    return RUNTIMES[name]


def chosen_files(bundle: Bundle, runtime: AndroidRuntime, precisions: Sequence[str]) -> tuple[ModelFile, ...]:
    """The bundle's files of these precisions, in their order; without any, the one that suits phones best.

    Raises `UnknownNameError` for a precision that the bundle lacks, `UsageError` for files that the runtime or
    the generated code cannot use, `InputError` for a file that no app can hold.
    """
    found = {entry.precision: entry for entry in bundle.files if entry.format == runtime.format}
    if not found:
        has = ", ".join(f"{entry.format}/{entry.precision}" for entry in bundle.files)
        raise UsageError(f"{bundle.folder}: {runtime.name} runs .{runtime.format} files, the bundle has {has}")
    for name in precisions:
        if name not in found:
            raise UnknownNameError(f"precision of .{runtime.format} files", name, sorted(found))
    wanted = tuple(dict.fromkeys(precisions)) or (min(found, key=lambda name: (preference(name), name)),)
    chosen = tuple(found[name] for name in wanted)
    for entry in chosen:
        _check(bundle, entry, runtime)
        _check_same_pictures(bundle, entry, chosen[0])
    if len({asset_name(entry) for entry in chosen}) < len(chosen):
        raise InputError(f"{bundle.folder}: {', '.join(e.path for e in chosen)} would have the same name in an app")
    return chosen


def asset_name(entry: ModelFile) -> str:
    """What the file is called in an app: with one dot.

    aapt2 takes for a name's extension all that follows its first dot, so that `-0 .tflite` does not keep
    `v1_0.25_int8.tflite` from being compressed.
    """
    stem, _, extension = entry.path.rpartition(".")
    return f"{stem.replace('.', '_')}.{extension}"


def _check(bundle: Bundle, entry: ModelFile, runtime: AndroidRuntime) -> None:
    where = bundle.path(entry)
    if not _ASSET_NAME.fullmatch(entry.path):
        raise InputError(f"{where}: no name for an asset; export again, with a --name of letters, digits, . _ + and -")
    if len(entry.input.shape) != 4:
        raise InputError(f"{where}: its input of shape {entry.input.shape} takes no pictures")
    if entry.input.shape[0] != 1:
        raise UsageError(f"{where}: takes {entry.input.shape[0]} pictures at once; export with --batch 1 for phones")
    if entry.input.dtype not in runtime.inputs:
        usable = " or ".join(sorted(runtime.inputs - {entry.input.dtype}))
        raise UsageError(
            f"{where}: {runtime.name} takes no {entry.input.dtype} input, but {usable}; export with --input uint8"
        )
    if entry.output.dtype not in runtime.outputs:
        raise UsageError(f"{where}: {runtime.name} reads no {entry.output.dtype} output; choose another --precision")
    if runtime.name == "mediapipe":
        _check_tasks(bundle, entry)


def _check_tasks(bundle: Bundle, entry: ModelFile) -> None:
    """What MediaPipe Tasks' ImageClassifier does by itself, and cannot be told to do otherwise."""
    where, preprocess = bundle.path(entry), entry.preprocess
    other = "use --runtime litert"
    if preprocess.resize == "letterbox":
        raise UsageError(f"{where}: MediaPipe's ImageClassifier cannot letterbox pictures; {other}")
    if bundle.manifest.scores == "logits":
        raise UsageError(f"{where}: MediaPipe gives logits as they are, not probabilities; {other}")
    if entry.input.shape[3] != 3:
        raise UsageError(f"{where}: MediaPipe's ImageClassifier takes colour pictures only; {other}")
    if preprocess.channels != "rgb" or len(set(preprocess.mean)) > 1 or len(set(preprocess.std)) > 1:
        raise UsageError(f"{where}: MediaPipe takes RGB with one mean and one deviation; export again, or {other}")


def _check_same_pictures(bundle: Bundle, entry: ModelFile, first: ModelFile) -> None:
    """The generated class prepares a picture in one way for all its models."""
    if picture_of(entry) != picture_of(first):
        raise UsageError(
            f"{bundle.folder}: {entry.path} and {first.path} want other pictures; make a package of each (--precision)"
        )


def picture_of(entry: ModelFile) -> tuple[int, int, int, str, float, str]:
    """(height, width, channels, resize, crop fraction, filter)."""
    preprocess = entry.preprocess
    return *entry.picture, preprocess.resize, preprocess.crop_fraction, preprocess.filter


def download_warnings(bundle: Bundle, chosen: Sequence[ModelFile]) -> tuple[str, ...]:
    """What makes the app's download larger than it need be."""
    warnings = []
    if len(chosen) > 1:
        total = sum(entry.size for entry in chosen)
        smallest = min(chosen, key=lambda entry: entry.size)
        warnings.append(
            f"{len(chosen)} models take {_mb(total)} of the download; {smallest.precision} alone takes "
            f"{_mb(smallest.size)}"
        )
    smaller = [e for e in bundle.files if e.format == chosen[0].format and e.precision in ("int8", "float16")]
    for entry in chosen:
        best = min(smaller, key=lambda e: e.size, default=entry)
        if entry.precision == "float32" and best.size < entry.size and best not in chosen:
            warnings.append(
                f"float32 takes {_mb(entry.size)} of the download; the bundle's {best.precision} takes {_mb(best.size)}"
            )
    return tuple(warnings)


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
