"""The options of the export. Each is written here, once; see `option_fields` for what is derived from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.answers import Meaning
from mbn_deploy.arguments import check_count
from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.export.file_types import (
    DEFAULT_PRECISIONS,
    NO_INT16,
    PRECISIONS,
    About,
    InputType,
    OnnxActivationType,
    wanted_files,
)
from mbn_deploy.graph.quantized import INT16X8
from mbn_deploy.manifest import FileFormat, Filter, Layout, Preprocess, Resize
from mbn_deploy.pipeline.label_names import Lines
from mbn_deploy.pipeline.option_fields import Option, option, options_of
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.integers import Granularity
from mbn_deploy.quantize.recipe import RECIPES
from mbn_deploy.runtime.label_files import Labels, read_labels
from mbn_deploy.verify.measures.measure import THRESHOLD

Names = str | Sequence[str]  # "a,b" or ["a", "b"]
FORMATS: tuple[str, ...] = tuple(PRECISIONS)
QUANTIZED = ("int8", INT16X8)  # the precisions that need calibration images

_LARGEST_SIDE = 2**14  # pixels of an input

OUTPUTS = "Outputs"
FILES = "Files"
PREPROCESSING = "Preprocessing"
IMAGES = "Images and labels"
INT8 = "Accuracy of int8"
METADATA = "Report and metadata"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of `export_model`. What is given is checked, and texts become values.

    Raises:
        UsageError: names the option whose value makes no sense, alone or beside the others.
        InputError: labels are given as a dictionary that leaves out a class or names it twice.
    """

    size: int | tuple[int, int] | None = option(
        None,
        help="Input height and width, if the model leaves them open. [default: the model's own; 224 for named models]",
        python="One number or (height, width).",
        swept=False,
    )
    name: str | None = option(
        None, help="First part of the files' names. [default: the model's name]", swept=False, recorded=False
    )
    overwrite: bool = option(
        default=False, help="Replace the bundle that is in the output folder.", swept=False, recorded=False
    )
    scores: Meaning | None = option(
        None,
        help="What the outputs mean: one of several classes, independent labels, a binary yes or no, values of a "
        "regression, or an embedding (a feature vector). [default: what the model's end and its compiled loss say; "
        "asked for if they do not]",
        group=OUTPUTS,
    )
    output_layer: str | None = option(
        None,
        help="Layer that becomes the output: one of several outputs, or an inner layer, such as the pooling of a "
        "classifier for its embedding. A layer of a nested model is named by its own name or its path "
        "(backbone/out_relu). [default: the model's only output]",
        group=OUTPUTS,
        metavar="LAYER",
    )
    formats: Names = option(FORMATS, help="File formats: tflite, onnx.", group=FILES, metavar="NAME,...")
    precisions: Names = option(
        DEFAULT_PRECISIONS,
        help="Precisions: float32, float16, dynamic (int8 weights, float activations), int8, and int16x8 (int16 "
        "activations, int8 weights). ONNX files are written as float32 and int8 only.",
        group=FILES,
        metavar="NAME,...",
    )
    input: InputType = option(
        "uint8", help="Input type of int8 and int16x8 files. uint8 takes raw pixels; int16 is for int16x8.", group=FILES
    )
    layout: Layout = option("nchw", help="Order of the axes of the input of ONNX files.", group=FILES)
    onnx_activations: OnnxActivationType = option(
        "uint8",
        help="Type of the activations in int8 ONNX files. uint8 is computed in integers on every processor; int8 may "
        "be faster on ARM64, and is computed in part as floats on x86-64.",
        group=FILES,
    )
    batch: int = option(1, help="Number of images that a file takes at once.", group=FILES)
    preprocess: str | Preprocess | None = option(
        None,
        help="Pixel values that the model expects, by Keras' mode names: raw is 0 to 255, unit 0 to 1, tf -1 to 1; "
        "MEAN/STD is (pixel - MEAN) / STD. [default: a named model's own; raw for a model that rescales inside]",
        group=PREPROCESSING,
        metavar="raw|unit|tf|torch|caffe|MEAN/STD",
    )
    resize: Resize | None = option(
        None,
        help="How an image is fitted to the input. As the training's loader: keras (image_dataset_from_directory; "
        "keras-crop with crop_to_aspect_ratio, keras-pad with pad_to_aspect_ratio), keras-nearest (load_img, "
        "ImageDataGenerator), torchvision (Resize, CenterCrop). With Pillow's antialias: squash, crop (the centre), "
        "letterbox (black borders). [default: crop for named models, keras for files, which is said]",
        group=PREPROCESSING,
    )
    crop_fraction: float | None = option(
        None,
        help="Share of the image's shorter side that `resize` crop or torchvision keeps, such as 224/256 = 0.875. "
        "[default: 0.875]",
        group=PREPROCESSING,
    )
    filter: Filter | None = option(
        None, help="Filter that resamples the image. [default: bilinear]", group=PREPROCESSING
    )
    calibrate: str | Path | None = option(
        None,
        help="Folder of images, or .npz file of pixels, from which the ranges of int8 and int16x8 files are taken.",
        group=IMAGES,
    )
    calibration_count: int = option(200, help="Number of calibration images to use.", group=IMAGES)
    seed: int = option(0, help="Random seed that selects the calibration images.", group=IMAGES)
    evaluate: str | Path | None = option(
        None,
        help="Folder with one sub-folder of images per class, or CSV table of image files with their classes, labels "
        "or values: the accuracy of every file is measured on them. Without sub-folders, only the agreement with the "
        "float model is.",
        group=IMAGES,
    )
    evaluate_resize: Resize | None = option(
        None, help="How the images of `evaluate` are fitted to the input. [default: like the others]", group=IMAGES
    )
    exclude: str | Path | None = option(
        None,
        help="Folder of images that must not be used for calibration, such as those of a later evaluation. The images "
        "of `evaluate` are never used for it.",
        group=IMAGES,
        swept=False,
    )
    labels: Labels | None = option(
        None,
        help="File that names the classes: one name a line, numbered lines, CSV, JSON or pbtxt; or a folder whose "
        "sub-folders name them in alphabetical order, as Keras takes them.",
        python="Or a list, or a dict from class to label or from label to class.",
        group=IMAGES,
    )
    synsets: Lines | None = option(
        None,
        help="Text file with the name of class i's sub-folder in line i, where the sub-folders of `evaluate` are not "
        "named by label.",
        python="Or a list.",
        group=IMAGES,
    )
    threshold: float = option(
        THRESHOLD,
        help="Probability from which on `evaluate` takes a label as given, and above which the answer of a binary "
        "model is positive.",
        group=IMAGES,
    )
    max_drop: float | None = option(
        None,
        help="Largest accepted loss of accuracy of int8 and int16x8 files, in percentage points, measured on the "
        "images of `evaluate`: of top-1, of the accuracy of a binary model, of the mean average precision of labels; "
        "of values the growth of the mean error, in percent of their standard deviation. Recipes are tried, the "
        "fastest on a device first, until one keeps to it.",
        group=INT8,
    )
    recipe: str | None = option(
        None,
        help=f"Quantization recipe of int8 files: {', '.join(RECIPES)}. With `max_drop`, it is the only one that is "
        "tried. [default: int8]",
        group=INT8,
        metavar="NAME",
    )
    granularity: Granularity = option(
        "per-channel", help="Whether int8 weights have a scale per channel or per tensor.", group=INT8
    )
    float_layers: Names = option(
        (),
        help="Layers that are computed in float in int8 files, which are then named int8-mixed.",
        group=INT8,
        metavar="NAME,...",
    )
    int16_layers: Names = option(
        (),
        help="Layers that have int16 activations in int8 TFLite files, which are then named int8-mixed.",
        group=INT8,
        metavar="NAME,...",
    )
    report: bool = option(
        default=True,
        help="Write report.html, a page for people. It holds measured times, and is the only file of the bundle that "
        "differs from run to run.",
        group=METADATA,
        swept=False,
        recorded=False,
    )
    report_images: bool = option(
        default=True,
        help="Show some images of `evaluate` in the report, small.",
        group=METADATA,
        swept=False,
        recorded=False,
    )
    description: str = option(
        "", help="What the model is for, written into the .tflite files' metadata.", group=METADATA, recorded=False
    )
    model_version: str = option(
        "", help="Version of the model, written into the .tflite files' metadata.", group=METADATA, recorded=False
    )
    author: str = option(
        "", help="Author of the model, written into the .tflite files' metadata.", group=METADATA, recorded=False
    )
    license: str = option(
        "", help="License of the model, written into the .tflite files' metadata.", group=METADATA, recorded=False
    )
    progress: Progress = option(
        silent,
        help="Function of a step's name, the number of parts that are done, and the number of all.",
        command_line=False,
        swept=False,
        recorded=False,
    )

    def __post_init__(self) -> None:
        for each in options_of(type(self)):
            value = getattr(self, each.name)
            each.check_type(value)
            if each.type == Names:
                value = names(each, value)
            _check_choice(each, value)
            object.__setattr__(self, each.name, value)
        if isinstance(self.labels, Mapping):
            object.__setattr__(self, "labels", read_labels(self.labels))
        self._check_names()
        self._check_numbers()
        self._check_int16()
        self._check_files()
        self._check_calibration()

    def _check_names(self) -> None:
        for what, values, known in (
            ("format", self.formats, FORMATS),
            ("precision", self.precisions, PRECISIONS["tflite"]),
            ("recipe", () if self.recipe is None else (self.recipe,), RECIPES),
        ):
            for value in values:
                if value not in known:
                    raise UnknownNameError(what, value, known)

    def _check_numbers(self) -> None:
        self.with_geometry(self.input_preprocess or Preprocess())
        check_count("--batch", self.batch)
        check_count("--calibration-count", self.calibration_count)
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"--seed takes a whole number from 0 on, below 2**64, not {self.seed}")
        for side in () if self.size is None else (self.size,) if isinstance(self.size, int) else self.size:
            check_count("--size", side, _LARGEST_SIDE)
        if not 0 < self.threshold < 1:
            raise UsageError(f"--threshold takes a probability between 0 and 1, not {self.threshold}")
        if self.max_drop is None:
            return
        if not 0 <= self.max_drop < 100:
            raise UsageError(f"--max-drop takes percentage points from 0 to 100, not {self.max_drop}")
        if self.evaluate is None or not self.quantized:
            raise UsageError(
                f"--max-drop needs images (--evaluate FOLDER) on which int8 or {INT16X8} files are compared with float"
            )

    def _check_int16(self) -> None:
        if INT16X8 in self.precisions and "tflite" not in self.formats:
            raise UsageError(f"{INT16X8} is written as TFLite only: {NO_INT16}")
        if self.int16_layers and "onnx" in self.formats:
            raise UsageError(f"--int16-layers: {NO_INT16}; leave ONNX out (--formats tflite)")
        if (self.int16_layers or self.float_layers) and "int8" not in self.precisions:
            raise UsageError("--int16-layers and --float-layers are for int8 files, which are not among --precisions")
        if self.input == "int16" and self.quantized != (INT16X8,):
            raise UsageError(f"--input int16 is for {INT16X8} files, without int8 files beside them")

    def _check_files(self) -> None:
        if not self.files():
            available = "; ".join(f"{kind} as {', '.join(precisions)}" for kind, precisions in PRECISIONS.items())
            raise UsageError(
                f"--formats {','.join(self.formats)} and --precisions {','.join(self.precisions)} give no file; there "
                f"are {available}"
            )

    def _check_calibration(self) -> None:
        if self.quantized and self.calibrate is None:
            others = ",".join(p for p in self.precisions if p not in self.quantized) or "float32"
            raise UsageError(
                f"{' and '.join(self.quantized)} {'needs' if len(self.quantized) == 1 else 'need'} calibration images: "
                f"give a folder of them (--calibrate), or leave {' and '.join(self.quantized)} out (--precisions "
                f"{others})"
            )

    @property
    def quantized(self) -> tuple[str, ...]:
        """The precisions whose files take their ranges from calibration images."""
        return tuple(precision for precision in QUANTIZED if precision in self.precisions)

    @property
    def input_preprocess(self) -> Preprocess | None:
        """The preprocessing of the Keras model's input, if it was given."""
        return Preprocess.parse(self.preprocess) if isinstance(self.preprocess, str) else self.preprocess

    @property
    def about(self) -> About:
        """The texts about the model's origin for the files' metadata."""
        return About(description=self.description, version=self.model_version, author=self.author, license=self.license)

    def with_geometry(self, preprocess: Preprocess) -> Preprocess:
        """Return `preprocess` with resize, crop fraction and filter as far as they were given one by one."""
        given = {"resize": self.resize, "crop_fraction": self.crop_fraction, "filter": self.filter}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        return replace(preprocess, **changes)

    def files(self) -> list[tuple[FileFormat, str]]:
        """List (format, precision) of every file, in the order in which they are written."""
        return wanted_files(self.formats, self.precisions)


def names(declared: Option, value: Names) -> tuple[str, ...]:
    """Split "a,b" into ("a", "b"); return other sequences as they are. Repetitions are left out."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) and value else list(value)
    if not all(parts):
        raise UsageError(f"{declared.flag} {value!r}: names separated by commas are expected")
    return tuple(dict.fromkeys(parts))


def _check_choice(declared: Option, value: object) -> None:
    if declared.choices and value is not None and value not in declared.choices:
        raise UnknownNameError(declared.flag, str(value), declared.choices)
