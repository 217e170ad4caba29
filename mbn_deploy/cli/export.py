"""`mbn-deploy export MODEL|FILE -o DIR`: the main job."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.bundle_table import print_result, result_json
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import (
    CalibrationCount,
    CalibrationSeed,
    CropFraction,
    Filter,
    Formats,
    Json,
    Labels,
    PreprocessText,
    RecipeName,
    Resize,
    Synsets,
    comma_list,
    path_option,
)
from mbn_deploy.cli.output import print_json, print_note
from mbn_deploy.cli.progress_bar import load_frameworks, progress_bar
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.tflite.metadata import About
from mbn_deploy.manifest import Preprocess
from mbn_deploy.models import tables
from mbn_deploy.models.layers import Spec

if TYPE_CHECKING:
    from mbn_deploy.pipeline.export import ExportResult

FILE_SUFFIXES = (".keras", ".h5", ".hdf5")
IMAGENET = "imagenet"


@guarded
def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|FILE", help="A name out of `mbn-deploy list`, or your .keras or .h5 file."),
    ],
    *,
    output: Annotated[Path, path_option("--output", "-o", help="The folder that becomes the bundle.")],
    alpha: Annotated[float | None, typer.Option(help="Of a MODEL: width multiplier α; 1.0 if not said.")] = None,
    size: Annotated[int | None, typer.Option(help="Input height and width; 224, or a FILE's own, if not said.")] = None,
    classes: Annotated[int | None, typer.Option(help="Of a MODEL: number of classes; 1000 if not said.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="imagenet|none|FILE", help="Of a MODEL; none is random. imagenet if not said."),
    ] = None,
    formats: Formats = "tflite,onnx",
    precisions: Annotated[
        str, typer.Option(help="float32, float16, dynamic, int8, int16x8 (TFLite only), separated by commas.")
    ] = "float32,float16,dynamic,int8",
    calibrate: Annotated[
        Path | None,
        path_option(help="Folder of images, or .npz of pixels: int8's ranges come from them."),
    ] = None,
    calibration_count: CalibrationCount = 200,
    seed: CalibrationSeed = 0,
    evaluate: Annotated[
        Path | None,
        path_option(help="Folder with a sub-folder a class: each file's accuracy, beside Keras' own."),
    ] = None,
    evaluate_resize: Annotated[
        str | None,
        typer.Option(metavar="squash|crop|letterbox", help="Of these images, where it differs from --resize."),
    ] = None,
    labels: Labels = None,
    synsets: Synsets = None,
    resize: Resize = None,
    crop_fraction: CropFraction = None,
    filter: Filter = None,  # noqa: A002 (typer takes the option's name from it)
    preprocess: PreprocessText = None,
    input_type: Annotated[
        str,
        typer.Option("--input", metavar="uint8|int8|int16|float32", help="Of quantized files; uint8 is raw pixels."),
    ] = "uint8",
    layout: Annotated[str, typer.Option(metavar="nchw|nhwc", help="Input of ONNX files.")] = "nchw",
    onnx_activations: Annotated[
        str, typer.Option(metavar="uint8|int8", help="In int8 ONNX files; int8 is worth a trial on ARM64 only.")
    ] = "uint8",
    batch: Annotated[int, typer.Option(help="Images at once, fixed in the files.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle at --output.")] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Points of top-1 that int8 may lose on --evaluate: recipes are tried until one keeps to it."),
    ] = None,
    recipe: RecipeName = None,
    granularity: Annotated[
        str, typer.Option(metavar="per-channel|per-tensor", help="Scales of int8 weights.")
    ] = "per-channel",
    float_layers: Annotated[
        str, typer.Option(metavar="NAME,...", help="Layers that stay in float; int8 is then int8-mixed.")
    ] = "",
    int16_layers: Annotated[
        str, typer.Option(metavar="NAME,...", help="Layers with activations of 16 bits; int8 is then int8-mixed.")
    ] = "",
    description: Annotated[str, typer.Option(help="What the model is for; into the .tflite files' metadata.")] = "",
    model_version: Annotated[str, typer.Option(help="Of the model; likewise.")] = "",
    author: Annotated[str, typer.Option(help="Of the model; likewise.")] = "",
    license: Annotated[str, typer.Option(help="Of the model; likewise.")] = "",  # noqa: A002 (typer: the option's name)
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="report.html, a page for people; it holds times.")
    ] = True,
    report_images: Annotated[
        bool, typer.Option("--report-images/--no-report-images", help="Some pictures of --evaluate in it, small.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Float and int8 files in both formats, each opened and run, in one folder with labels and a manifest."""
    options = {
        "size": size,
        "preprocess": None if preprocess is None else Preprocess.parse(preprocess),
        "resize": resize,
        "crop_fraction": crop_fraction,
        "filter": filter,
        "formats": comma_list(formats, "--formats"),
        "precisions": comma_list(precisions, "--precisions"),
        "calibration": calibrate,
        "calibration_count": calibration_count,
        "seed": seed,
        "evaluate": evaluate,
        "evaluate_resize": evaluate_resize,
        "labels": labels,
        "synsets": synsets,
        "input_dtype": input_type,
        "layout": layout,
        "onnx_activations": onnx_activations,
        "batch": batch,
        "overwrite": overwrite,
        "max_drop": max_drop,
        "recipe": recipe,
        "granularity": granularity,
        "float_layers": comma_list(float_layers, "--float-layers") if float_layers else (),
        "int16_layers": comma_list(int16_layers, "--int16-layers") if int16_layers else (),
        "about": About(description, model_version, author, license),
    }
    page = {"report": report, "report_images": report_images}
    network = {"alpha": alpha, "classes": classes, "weights": weights}
    result = _exported(
        model, output, {key: value for key, value in network.items() if value is not None}, options, page
    )
    for warning in result.warnings:
        print_note(f"warning: {warning}")
    if as_json:
        print_json(result_json(result))
        return
    print_result(result)
    print_note(f"Took {sum(result.seconds.values()):.1f} s. Next: mbn-deploy run {shlex.quote(str(output))} IMAGE")


def is_file(model: str) -> bool:
    """Whether `model` is a path and not a name."""
    return model not in tables.NETWORKS and (
        Path(model).suffix in FILE_SUFFIXES or os.sep in model or Path(model).exists()
    )


def _exported(
    model: str, output: Path, network: dict[str, Any], options: dict[str, Any], page: dict[str, Any]
) -> ExportResult:
    """What makes no sense is said before the frameworks are loaded, which takes seconds."""
    from mbn_deploy.bundle.write import check_target
    from mbn_deploy.export.from_keras.load import check_model_file
    from mbn_deploy.pipeline.options import Request

    by_name = not is_file(model)
    if by_name:
        Spec(tables.network(model), **_numbers(network, options["size"]))
    elif network:
        said = ", ".join(f"--{option}" for option in network)
        raise UsageError(f"{said} is for a MODEL by name; {model} is a FILE, which says it itself")
    else:
        check_model_file(Path(model))
    _check_inputs(options)
    Request(**options)
    check_target(output, overwrite=options["overwrite"])
    load_frameworks()
    from mbn_deploy.pipeline import export as pipeline

    with progress_bar() as progress:
        source = _built(model, network, options["size"]) if by_name else Path(model)
        return pipeline.export_model(source, output, **options, **page, progress=progress)


def _check_inputs(options: dict[str, Any]) -> None:
    """Raise `InputError` for folders that are not there and for text files that cannot be read."""
    from mbn_deploy.pipeline.source import lines

    for folder in (options["calibration"], options["evaluate"]):
        if folder is not None and not folder.exists():
            raise InputError(f"{folder}: no such folder")
    for text in (options["labels"], options["synsets"]):
        if text is not None:
            lines(text)


def _built(name: str, network: dict[str, Any], size: int | None) -> Any:
    from mbn_deploy.models.api import build

    weights = network.get("weights", IMAGENET)
    return build(name, **_numbers(network, size), weights=None if weights == "none" else weights)


def _numbers(network: dict[str, Any], size: int | None) -> dict[str, Any]:
    numbers = {key: value for key, value in network.items() if key != "weights"}
    return numbers if size is None else numbers | {"size": size}
