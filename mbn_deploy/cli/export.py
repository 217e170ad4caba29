"""`mbn-deploy export MODEL|FILE -o DIR`: the main job."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.bundle_table import print_result, result_json
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.export_options import with_options
from mbn_deploy.cli.options import Json, path_option
from mbn_deploy.cli.output import print_json, print_note
from mbn_deploy.cli.progress_bar import load_frameworks, progress_bar
from mbn_deploy.errors import UsageError
from mbn_deploy.models import tables
from mbn_deploy.models.layers import Spec
from mbn_deploy.pipeline.option_fields import keywords
from mbn_deploy.pipeline.options import ExportOptions

if TYPE_CHECKING:
    from mbn_deploy.pipeline.export import ExportResult

FILE_SUFFIXES = (".keras", ".h5", ".hdf5")
IMAGENET = "imagenet"
NAMED_MODEL = "Named models"


@guarded
@with_options(ExportOptions)
def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|FILE", help="A model's name (see `mbn-deploy list`), or a .keras or .h5 file."),
    ],
    *,
    folder: Annotated[Path | None, path_option("--folder", "-o", help="Folder that becomes the bundle.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER", help="The same as --output-layer. Without -o, the folder that becomes the bundle."
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Width multiplier α. [default: 1.0]", rich_help_panel=NAMED_MODEL)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes. [default: 1000]", rich_help_panel=NAMED_MODEL)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|FILE",
            help="Weights: trained on ImageNet, random, or a file. [default: imagenet]",
            rich_help_panel=NAMED_MODEL,
        ),
    ] = None,
    options: dict[str, Any],
    as_json: Json = False,
) -> None:
    """Export a Keras model to TFLite and ONNX files, float and int8, in one folder with labels and a manifest.

    Every file is loaded and run once before the export succeeds.
    """
    bundle = _folder(folder, output, options)
    network = {"alpha": alpha, "classes": classes, "weights": weights}
    result = _export(model, bundle, {name: value for name, value in network.items() if value is not None}, options)
    for warning in result.warnings:
        print_note(f"warning: {warning}")
    if as_json:
        print_json(result_json(result))
        return
    print_result(result)
    print_note(f"Took {sum(result.seconds.values()):.1f} s. Next: mbn-deploy run {shlex.quote(str(bundle))} IMAGE")


def _folder(folder: Path | None, output: str | None, options: dict[str, Any]) -> Path:
    """Return the output folder; `--output` beside `-o` is set as the layer that becomes the output."""
    if folder is None:
        if output is None:
            raise UsageError("-o is missing: the folder that becomes the bundle")
        return Path(output)
    if output is not None:
        if options["output_layer"] not in (None, output):
            raise UsageError(f"--output {output} and --output-layer {options['output_layer']} are two layers; give one")
        options["output_layer"] = output
    return folder


def is_file(model: str) -> bool:
    """Tell whether `model` is the path of a file and not a model's name."""
    return model not in tables.NETWORKS and (
        Path(model).suffix in FILE_SUFFIXES or os.sep in model or Path(model).exists()
    )


def _export(model: str, output: Path, network: dict[str, Any], given: dict[str, Any]) -> ExportResult:
    """Check everything that can be checked before the frameworks are loaded, which takes seconds; then export."""
    from mbn_deploy.bundle.write import check_target
    from mbn_deploy.export.from_keras.load import check_model_file
    from mbn_deploy.pipeline.export import export_model
    from mbn_deploy.pipeline.images import check_inputs

    by_name = not is_file(model)
    if by_name:
        Spec(tables.network(model), **_numbers(network, given["size"]))
    elif network:
        flags = ", ".join(f"--{option}" for option in network)
        raise UsageError(f"{flags}: only for a model by name; the file {model} fixes them")
    else:
        check_model_file(Path(model))
    check_inputs(given)
    options = ExportOptions(**given)
    check_target(output, overwrite=options.overwrite)
    load_frameworks()
    with progress_bar() as progress:
        source = _build(model, network, given["size"]) if by_name else Path(model)
        return export_model(source, output, **keywords(replace(options, progress=progress)))


def _build(name: str, network: dict[str, Any], size: int | None) -> Any:
    from mbn_deploy.models.api import build

    weights = network.get("weights", IMAGENET)
    return build(name, **_numbers(network, size), weights=None if weights == "none" else weights)


def _numbers(network: dict[str, Any], size: int | None) -> dict[str, Any]:
    numbers = {name: value for name, value in network.items() if name != "weights"}
    return numbers if size is None else numbers | {"size": size}
