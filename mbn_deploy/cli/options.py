"""Options that several commands share, and what they say together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.runtime.bundle import read_file
from mbn_deploy.runtime.labels import parse_labels

Target = Annotated[
    Path, typer.Argument(metavar="BUNDLE|FILE", help="A folder that `export` made, or a .tflite or .onnx file.")
]
Backend = Annotated[
    str | None, typer.Option(metavar="litert|tflite|onnx", help="Interpreter; by default the first that is installed.")
]
Threads = Annotated[int | None, typer.Option(help="Of one inference; by default the processors, at most 4.")]
FileLabels = Annotated[
    Path | None, typer.Option(help="Text file: line i (from 0) names class i; by default what the file says.")
]
Labels = Annotated[Path | None, typer.Option(help="Text file: line i (from 0) names class i.")]
Synsets = Annotated[
    Path | None, typer.Option(help="Text file: line i names class i's sub-folder in the data, if that is no label.")
]
Resize = Annotated[str | None, typer.Option(metavar="squash|crop|letterbox", help="How images become square.")]
CropFraction = Annotated[float | None, typer.Option(help="Share of the image that a centre crop keeps.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="bilinear|bicubic|nearest|lanczos", help="How images are resampled.")
]
PreprocessText = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="raw|unit|tf|torch|caffe|MEAN/STD",
        help="What the model wants of pixels: raw [0, 255], unit [0, 1], tf [-1, 1], or (pixel - MEAN) / STD.",
    ),
]


def lines_of(path: Path) -> tuple[str, ...]:
    """The lines of a labels or synsets file; raises `InputError`."""
    return parse_labels(read_file(path), str(path))


def geometry(resize: str | None, crop_fraction: float | None, filter: str | None) -> dict[str, Any]:  # noqa: A002
    """The keywords of `Preprocess` that were said; the rest keeps its defaults."""
    said = {"resize": resize, "crop_fraction": crop_fraction, "filter": filter}
    return {key: value for key, value in said.items() if value is not None}
