"""Options that several commands share, and what they say together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.quantize.recipe import RECIPES
from mbn_deploy.runtime import ModelInfo
from mbn_deploy.runtime.labels import parse_labels
from mbn_deploy.runtime.system.files import read_file


def path_option(*names: str, help: str) -> Any:  # noqa: A002 (typer's word)
    """An option that is a path. Typer must not check it: an unreadable file is no wrong use (2) but an input (3)."""
    return typer.Option(*names, help=help, readable=False)


def path_argument(metavar: str, help: str) -> Any:  # noqa: A002 (typer's word)
    """An argument that is a path; see `path_option`."""
    return typer.Argument(metavar=metavar, help=help, readable=False)


Target = Annotated[
    Path,
    path_argument(metavar="BUNDLE|FILE", help="A folder that `export` made, or a .tflite or .onnx file."),
]
Backend = Annotated[
    str | None, typer.Option(metavar="litert|tflite|onnx", help="Interpreter; by default the first that is installed.")
]
Threads = Annotated[
    int | None,
    typer.Option(help="Of one inference; by default what `benchmark --tune` found, else the processors, at most 4."),
]
FileLabels = Annotated[
    Path | None,
    path_option(help="Text file: line i (from 0) names class i; by default what the file says."),
]
Labels = Annotated[Path | None, path_option(help="Text file: line i (from 0) names class i.")]
Synsets = Annotated[
    Path | None,
    path_option(help="Text file: line i names class i's sub-folder in the data, if that is no label."),
]
Resize = Annotated[str | None, typer.Option(metavar="squash|crop|letterbox", help="How images become square.")]
CropFraction = Annotated[float | None, typer.Option(help="Share of the image that a centre crop keeps.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="bilinear|bicubic|nearest|lanczos", help="How images are resampled.")
]
Precision = Annotated[str | None, typer.Option(help="Which file of a bundle; by default int8 if there is one.")]
OnlyPrecision = Annotated[str | None, typer.Option(help="Only this precision of a bundle.")]
Formats = Annotated[str, typer.Option(help="tflite, onnx, separated by commas.")]
CalibrationCount = Annotated[int, typer.Option(help="How many of them are used.")]
CalibrationSeed = Annotated[int, typer.Option(help="Of the choice of calibration images.")]
RecipeName = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"How int8 is made: {', '.join(RECIPES)}; int8 if not said.")
]
PreprocessText = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="raw|unit|tf|torch|caffe|MEAN/STD",
        help="What the model wants of pixels: raw [0, 255], unit [0, 1], tf [-1, 1], or (pixel - MEAN) / STD.",
    ),
]


def classifier_facts(info: ModelInfo) -> dict[str, Any]:
    """What runs, as JSON values: `run` and `serve` say it of themselves."""
    names = ("path", "model", "format", "precision", "backend", "threads", "threads_from")
    return {name: getattr(info, name) for name in names}


def synsets_of(path: Path | None) -> tuple[str, ...] | None:
    """The first word of each line, as `export` reads the file too; raises `InputError`."""
    if path is None:
        return None
    return tuple(line.split()[0] for line in parse_labels(read_file(path), str(path)) if line.strip())
