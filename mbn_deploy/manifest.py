"""The manifest of a bundle: frozen dataclasses with a JSON form and a schema version.

The reader is strict about what it needs and tolerant of keys that it does not know, so that a
newer minor writer does not lock out an older device.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from mbn_deploy.answers import Answers, Meaning, Scores
from mbn_deploy.errors import InputError, UnknownNameError, UsageError

SCHEMA_VERSION = 1
# The files of a bundle beside the models.
MANIFEST_NAME, LABELS_NAME, GOLDEN_NAME, REPORT_NAME = "manifest.json", "labels.txt", "golden.npz", "report.html"
DESCRIPTION_KEY = "mbn_deploy"  # the metadata entry of a .tflite or .onnx file that holds its `Description`

Resize = Literal["squash", "crop", "letterbox", "keras", "keras-crop", "keras-pad", "keras-nearest", "torchvision"]
Filter = Literal["bilinear", "bicubic", "nearest", "lanczos"]
Channels = Literal["rgb", "bgr"]
Layout = Literal["nhwc", "nchw"]
FileFormat = Literal["tflite", "onnx"]

# What each way does with a picture; `{fraction}` stands for the crop fraction.
RESIZE_ABOUT: dict[Resize, str] = {
    "squash": "the whole picture, stretched, with antialias",
    "crop": "the centre, {fraction} of the shorter side, with antialias",
    "letterbox": "the whole picture on black borders, with antialias",
    "keras": "the whole picture, stretched, without antialias, as image_dataset_from_directory",
    "keras-crop": "the centre, without antialias, as image_dataset_from_directory(crop_to_aspect_ratio=True)",
    "keras-pad": "the whole picture on black borders, as image_dataset_from_directory(pad_to_aspect_ratio=True)",
    "keras-nearest": "the whole picture, nearest pixels, as load_img and ImageDataGenerator",
    "torchvision": "Resize, CenterCrop to {fraction} of the shorter side, of PIL images, as torchvision",
}
# The ways to resize whose sampler is not Pillow's antialiased one: they take no other filters than these.
UNFILTERED: dict[Resize, tuple[Filter, ...]] = {
    "keras": ("bilinear", "nearest"),
    "keras-crop": ("bilinear", "nearest"),
    "keras-pad": ("bilinear", "nearest"),
}

LARGEST = 1e30  # of a mean or a deviation: float32, in which pixels are normalized, holds it and its reciprocal

# Keras' mode names: (mean, std, channel order); x = (pixel - mean) / std with pixel in [0, 255].
PREPROCESS_MODES: dict[str, tuple[tuple[float, ...], tuple[float, ...], Channels]] = {
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "rgb"),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), "rgb"),
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), "rgb"),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb"),
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
}


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a picture to the model's input.

    The picture is resized to the input's height and width, then each channel becomes
    `(pixel - mean) / std` with pixel in [0, 255]; `mean` and `std` follow `channels`.

    `runtime/resize_plan.py` says what each way to resize does. `crop_fraction` matters to `crop` and `torchvision`
    only; `keras-nearest` takes single pixels whatever `filter` says.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: Channels = "rgb"
    resize: Resize = "crop"
    crop_fraction: float = 0.875
    filter: Filter = "bilinear"

    def __post_init__(self) -> None:
        _one_of("resize", self.resize, get_args(Resize))
        _one_of("filter", self.filter, get_args(Filter))
        _one_of("channel order", self.channels, get_args(Channels))
        usable_filters = UNFILTERED.get(self.resize, (self.filter,))
        if self.filter not in usable_filters:
            raise UsageError(
                f"resize {self.resize} takes the filters {', '.join(usable_filters)}, not {self.filter}, which "
                "squash, crop, letterbox and torchvision take"
            )
        if not 0 < self.crop_fraction <= 1:
            raise UsageError(f"crop fraction must be in (0, 1], not {self.crop_fraction}")
        usable = all(abs(m) < LARGEST for m in self.mean) and all(1 / LARGEST < s < LARGEST for s in self.std)
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or not usable:
            raise UsageError(f"mean {self.mean} and std {self.std} must be 1 or 3 finite numbers each, std above 0")

    @property
    def resize_about(self) -> str:
        """A phrase that says what `resize` does with a picture."""
        return RESIZE_ABOUT[self.resize].format(fraction=f"{self.crop_fraction:.4g}")

    @property
    def kept_centre(self) -> float | None:
        """The share of the shorter side that is kept of the centre, None where the whole picture is shown."""
        shares = {"crop": self.crop_fraction, "torchvision": self.crop_fraction, "keras-crop": 1.0}
        return shares.get(self.resize)

    @classmethod
    def parse(cls, text: str, **geometry: Any) -> Preprocess:
        """Parse `raw`, `unit`, `tf`, `torch`, `caffe`, or `MEAN/STD` with one or three comma-separated numbers each."""
        if text in PREPROCESS_MODES:
            mean, std, channels = PREPROCESS_MODES[text]
            return cls(mean=mean, std=std, channels=channels, **geometry)
        if "/" not in text:
            raise UnknownNameError("preprocessing", text, [*PREPROCESS_MODES, "MEAN/STD"])
        means, _, stds = text.partition("/")
        return cls(mean=_numbers(means, text), std=_numbers(stds, text), **geometry)


def _numbers(text: str, whole: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{whole!r}: MEAN/STD needs numbers, as in 127.5/127.5 or 124,116,104/58,57,57") from None
    if len(values) not in (1, 3):
        raise UsageError(f"{whole!r}: one or three numbers on each side of the slash, not {len(values)}")
    return values * 3 if len(values) == 1 else values


@dataclass(frozen=True)
class TensorInfo:
    """A file's input or output: `shape` with batch axis; scale and zero point of quantized ones.

    real = scale * (q - zero_point).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class ModelFile:
    """One model file of a bundle; `path` is relative to the manifest and has no folder part."""

    path: str
    format: FileFormat
    precision: str
    sha256: str
    size: int
    input: TensorInfo
    output: TensorInfo
    preprocess: Preprocess
    layout: Layout = "nhwc"

    def __post_init__(self) -> None:
        plain_name("model file", self.path)
        _one_of("file format", self.format, get_args(FileFormat))
        _one_of("layout", self.layout, get_args(Layout))

    @property
    def picture(self) -> tuple[int, int, int]:
        """(height, width, channels) of the input."""
        _, first, second, third = self.input.shape
        return (second, third, first) if self.layout == "nchw" else (first, second, third)


@dataclass(frozen=True)
class Description:
    """The description that a single model file carries as JSON under `DESCRIPTION_KEY`."""

    model: str
    precision: str
    scores: Scores
    preprocess: Preprocess
    layout: Layout = "nhwc"
    labels: tuple[str, ...] | None = None
    meaning: Meaning | None = None  # None: what the scores suggest

    def __post_init__(self) -> None:
        self.answers(2)  # raises for a meaning that such a model cannot have
        _one_of("layout", self.layout, get_args(Layout))

    def answers(self, outputs: int) -> Answers:
        """Return what the model's `outputs` numbers mean."""
        return Answers.for_outputs(self.scores, outputs, self.meaning)

    def to_json(self) -> str:
        """Return deterministic JSON text on one line; a meaning that the scores suggest anyway is left out."""
        fields = {key: value for key, value in asdict(self).items() if key != "meaning" or value is not None}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Description:
        """Parse JSON; raises an `InputError` that names `where`, the file that holds the text."""
        try:
            data = json.loads(text)
            return cls(
                model=str(data["model"]),
                precision=str(data["precision"]),
                scores=data["scores"],
                preprocess=preprocess_from_dict(data["preprocess"]),
                layout=data["layout"],
                labels=None if data.get("labels") is None else tuple(str(label) for label in data["labels"]),
                meaning=data.get("meaning"),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError, UsageError) as error:
            raise InputError(f"{where}: its {DESCRIPTION_KEY!r} metadata are damaged: {error}") from None


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`. `metrics`, `quantization` and `threads` are plain JSON values.

    `threads` are numbers of threads that were measured to be best, by file, interpreter and kind of machine
    (`runtime.threads.ThreadRecord`). An export has none: the machine that exports is not the one that runs.
    `classes` is the number of outputs; `meaning` says what they are, and None becomes what `scores` suggest.
    """

    model: str
    classes: int
    scores: Scores
    files: tuple[ModelFile, ...]
    labels: str | None = None
    labels_sha256: str | None = None
    golden: str | None = None
    golden_sha256: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    threads: tuple[Any, ...] = ()
    schema_version: int = SCHEMA_VERSION
    meaning: Meaning | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "meaning", self.answers.meaning)
        for what in (self.labels, self.golden):
            if what is not None:
                plain_name("bundle file", what)

    @property
    def answers(self) -> Answers:
        """The meaning of the model's outputs."""
        return Answers.for_outputs(self.scores, self.classes, self.meaning)

    def to_json(self) -> str:
        """Return deterministic JSON text: sorted keys, two spaces, a newline at the end."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = MANIFEST_NAME) -> Manifest:
        """Parse JSON; raises an `InputError` that names `where` and the key that is wrong."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON: {error}") from None
        if not isinstance(data, dict):
            raise InputError(f"{where}: a JSON object is expected, not a {type(data).__name__}")
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version!r}; this program reads version {SCHEMA_VERSION}. "
                "Export again, or use the mbn-deploy that wrote the bundle."
            )
        try:
            return _manifest(data)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(f"{where}: missing or wrong value: {error}") from None
        except (UsageError, InputError) as error:
            raise InputError(f"{where}: {error}") from None


def preprocess_from_dict(data: dict[str, Any]) -> Preprocess:
    """Invert `dataclasses.asdict` on a `Preprocess`; raises `TypeError` for anything but a JSON object."""
    if not isinstance(data, dict):
        raise TypeError(f"preprocess is {data!r:.40}, not an object")
    known = {k: data[k] for k in Preprocess.__dataclass_fields__ if k in data}
    for key in ("mean", "std"):
        if key in known:
            known[key] = tuple(float(v) for v in known[key])
    return Preprocess(**known)


_LARGEST_ZERO_POINT = 2**31  # no type of a model's ends has more


def _tensor(data: dict[str, Any]) -> TensorInfo:
    scale = None if data.get("scale") is None else float(data["scale"])
    zero = None if data.get("zero_point") is None else int(data["zero_point"])
    if (scale is not None and not 0 < scale < LARGEST) or abs(zero or 0) > _LARGEST_ZERO_POINT:
        raise ValueError(f"scale {scale} and zero point {zero} of tensor {data['name']!r}")
    return TensorInfo(
        name=str(data["name"]),
        shape=tuple(int(n) for n in data["shape"]),
        dtype=str(data["dtype"]),
        scale=scale,
        zero_point=zero,
    )


def _file(data: dict[str, Any]) -> ModelFile:
    return ModelFile(
        path=str(data["path"]),
        format=data["format"],
        precision=str(data["precision"]),
        sha256=str(data["sha256"]),
        size=int(data["size"]),
        input=_tensor(data["input"]),
        output=_tensor(data["output"]),
        preprocess=preprocess_from_dict(data["preprocess"]),
        layout=data.get("layout", "nhwc"),
    )


def _manifest(data: dict[str, Any]) -> Manifest:
    text: dict[str, Any] = {
        key: None if data.get(key) is None else str(data[key])
        for key in ("labels", "labels_sha256", "golden", "golden_sha256")
    }
    objects: dict[str, Any] = {key: dict(data.get(key) or {}) for key in ("source", "quantization", "metrics", "tools")}
    return Manifest(
        model=str(data["model"]),
        classes=int(data["classes"]),
        scores=data["scores"],
        meaning=data.get("meaning"),
        files=tuple(_file(item) for item in data["files"]),
        threads=tuple(data.get("threads") or ()),
        **text,
        **objects,
    )


def plain_name(what: str, name: str) -> str:
    """Return `name` if it is a bare file name: a manifest must not point outside its own folder."""
    if not name or name in (".", "..") or PurePosixPath(name).name != name or set(name) & set("\\/:\0\n\r"):
        raise InputError(f"{what} {name!r} is not a plain file name")
    return name


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(what, str(value), known)
