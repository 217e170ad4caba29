"""Options that several commands share, with their help and the heading under which `--help` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.errors import UsageError
from mbn_deploy.quantize.recipe import RECIPES
from mbn_deploy.runtime import ModelInfo
from mbn_deploy.runtime.labels import parse_labels
from mbn_deploy.runtime.system.files import read_file

# Headings of `--help`, for options that are listed together in several commands.
INTERPRETER = "Model file and interpreter"
PREPROCESSING = "Preprocessing and labels"
CAMERA = "Camera"


def path_option(*names: str, help: str, panel: str | None = None) -> Any:  # noqa: A002 (typer's word)
    """Return an option that takes a path, without typer's own checks.

    Typer would exit with 2 (wrong use) for an unreadable file, which is an unusable input (3) here.
    """
    return typer.Option(*names, help=help, readable=False, rich_help_panel=panel)


def path_argument(metavar: str, help: str) -> Any:  # noqa: A002 (typer's word)
    """Return an argument that takes a path; see `path_option`."""
    return typer.Argument(metavar=metavar, help=help, readable=False)


Target = Annotated[
    Path,
    path_argument(metavar="BUNDLE|FILE", help="A bundle (the folder that `export` wrote), or a .tflite or .onnx file."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Which precision of a bundle to use. [default: int8 if the bundle has it]", rich_help_panel=INTERPRETER
    ),
]
OnlyPrecision = Annotated[
    str | None,
    typer.Option(help="Use only the bundle's files of this precision. [default: all]", rich_help_panel=INTERPRETER),
]
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="litert|tflite|onnx",
        help="Interpreter. [default: the first that is installed]",
        rich_help_panel=INTERPRETER,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Number of threads. [default: what `benchmark --tune` found best, else one a processor, at most 4]",
        rich_help_panel=INTERPRETER,
    ),
]
FileLabels = Annotated[
    Path | None,
    path_option(
        help="Text file with the label of class i in line i, from 0. [default: the file's own labels]",
        panel=PREPROCESSING,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="squash|crop|letterbox",
        help="How an image is fitted to the input: stretched, cut to its centre, or padded.",
        rich_help_panel=PREPROCESSING,
    ),
]
PreprocessText = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="raw|unit|tf|torch|caffe|MEAN/STD",
        help="Pixel values that the model expects, by Keras' mode names: raw is 0 to 255, unit 0 to 1, tf -1 to 1; "
        "MEAN/STD is (pixel - MEAN) / STD.",
        rich_help_panel=PREPROCESSING,
    ),
]
Labels = Annotated[Path | None, path_option(help="Text file with the label of class i in line i, from 0.")]
Synsets = Annotated[
    Path | None,
    path_option(
        help="Text file with the name of class i's sub-folder in line i, where sub-folders are not named by label."
    ),
]
CropFraction = Annotated[
    float | None, typer.Option(help="Share of the image's shorter side that `--resize crop` keeps. [default: 0.875]")
]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="bilinear|bicubic|nearest|lanczos", help="Filter that resamples the image."),
]
Formats = Annotated[str, typer.Option(help="File formats, separated by commas: tflite, onnx.")]
CalibrationCount = Annotated[int, typer.Option(help="Number of calibration images to use.")]
CalibrationSeed = Annotated[int, typer.Option(help="Random seed that selects the calibration images.")]
RecipeName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Quantization recipe of int8 files: {', '.join(RECIPES)}. [default: int8]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout; messages and progress go to stderr.")]


def model_summary(info: ModelInfo) -> dict[str, Any]:
    """Return the file, its interpreter and its threads as JSON values, for the output of `run` and `serve`."""
    names = ("path", "model", "format", "precision", "backend", "threads", "threads_from")
    return {name: getattr(info, name) for name in names}


def read_synsets(path: Path | None) -> tuple[str, ...] | None:
    """Read the first word of each line, as `export` reads the same file; raises `InputError`."""
    if path is None:
        return None
    return tuple(line.split()[0] for line in parse_labels(read_file(path), str(path)) if line.strip())


def comma_list(text: str, option: str) -> tuple[str, ...]:
    """Split `a,b` into ("a", "b") without repetitions; an empty part raises a `UsageError` that names `option`."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UsageError(f"{option} {text!r}: names separated by commas are expected")
    return tuple(dict.fromkeys(parts))
