"""Options that several commands share, with their help and the heading under which `--help` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.errors import UsageError
from mbn_deploy.pipeline.option_fields import options_of
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.runtime import ModelInfo

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


def override(name: str) -> Any:
    """Return the export's option `name` for a command that reads a file and may contradict it."""
    declared = next(each for each in options_of(ExportOptions) if each.name == name)
    return typer.Option(
        declared.flag,
        metavar=declared.metavar or "|".join(declared.choices) or None,
        help=declared.command_help.partition(" [default:")[0] + " [default: the file's own]",
        rich_help_panel=PREPROCESSING,
        readable=False,
    )


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
Isolate = Annotated[
    bool | None,
    typer.Option(
        "--isolate/--trust",
        help="Run the interpreter in a child process with limits on memory and time, for files made by somebody you do "
        "not trust; or open a lone file without trying it in a child process first. [default: a file that no bundle "
        "vouches for is tried once]",
        rich_help_panel=INTERPRETER,
    ),
]
FileLabels = Annotated[Path | None, override("labels")]
Resize = Annotated[str | None, override("resize")]
PreprocessText = Annotated[str | None, override("preprocess")]
FileScores = Annotated[str | None, override("scores")]
Synsets = Annotated[
    Path | None,
    path_option(
        help="Text file with the name of class i's sub-folder in line i, where sub-folders are not named by label."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout; messages and progress go to stderr.")]


def model_summary(info: ModelInfo) -> dict[str, Any]:
    """Return the file, its interpreter and its threads as JSON values, for the output of `run` and `serve`."""
    names = ("path", "model", "format", "precision", "backend", "threads", "threads_from")
    return {name: getattr(info, name) for name in names} | {"meaning": info.answers.meaning}


def comma_list(text: str, option: str) -> tuple[str, ...]:
    """Split `a,b` into ("a", "b") without repetitions; an empty part raises a `UsageError` that names `option`."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UsageError(f"{option} {text!r}: names separated by commas are expected")
    return tuple(dict.fromkeys(parts))
