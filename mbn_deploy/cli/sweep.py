"""`mbn-deploy sweep -o DIR`: many variants, a bundle each, and a table that compares them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from mbn_deploy.cli.output import human_bytes, plain, print_error, print_json, print_note, stdout, table
from mbn_deploy.cli.progress_bar import progress_bar
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess

if TYPE_CHECKING:
    from mbn_deploy.sweep.plan import Variant
    from mbn_deploy.sweep.run import Sweep
    from mbn_deploy.sweep.table import Row

SOME_FAILED = 3


@guarded
def sweep(
    *,
    output: Annotated[Path, path_option("--output", "-o", help="Folder of bundles and tables; one of before goes on.")],
    models: Annotated[
        str | None, typer.Option(metavar="MODEL,...", help="Names out of `mbn-deploy list`, separated by commas.")
    ] = None,
    alphas: Annotated[str | None, typer.Option(metavar="α,...", help="Width multipliers; 1.0 if not said.")] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,...", help="Input heights and widths; 224, or FILEs' own, if not said.")
    ] = None,
    files: Annotated[
        str | None, typer.Option(metavar="FILE,...", help="Your own .keras and .h5 files, beside or instead of models.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Of models; 1000 if not said.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|DIR",
            help="Of models; DIR has <model>_<alpha>_<size>.weights.h5. imagenet if not said.",
        ),
    ] = None,
    formats: Formats = "tflite,onnx",
    precisions: Annotated[
        str, typer.Option(help="float32, float16, dynamic, int8, int16x8, separated by commas; files of each bundle.")
    ] = "float32,int8",
    calibrate: Annotated[Path | None, path_option(help="Folder of images, or .npz: int8's ranges.")] = None,
    calibration_count: CalibrationCount = 200,
    seed: CalibrationSeed = 0,
    evaluate: Annotated[
        Path | None, path_option(help="Folder with a sub-folder a class: accuracy of every file.")
    ] = None,
    evaluate_resize: Annotated[
        str | None, typer.Option(metavar="squash|crop|letterbox", help="Of these images, if not --resize.")
    ] = None,
    labels: Labels = None,
    synsets: Synsets = None,
    resize: Resize = None,
    crop_fraction: CropFraction = None,
    filter: Filter = None,  # noqa: A002 (typer takes the option's name from it)
    preprocess: PreprocessText = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of top-1 that int8 may lose; as of `export`.")] = None,
    recipe: RecipeName = None,
    jobs: Annotated[int, typer.Option(help="Processes of this machine that work side by side.")] = 1,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Or the workers of this Dask scheduler: tcp://host:8786.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="For which each file's latency is measured here, after all jobs; 0 leaves it out.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """A bundle of every model, width and size, with all precisions; a table of all files, with the Pareto fronts.

    What stands already with the same options is not made again, and what failed does not stop the rest.
    """
    if dask is not None and jobs != 1:
        raise UsageError("--jobs is for processes here, --dask for a cluster: give one of them")
    variants = _variants(models=models, alphas=alphas, sizes=sizes, files=files, classes=classes, weights=weights)
    options: dict[str, Any] = {
        "formats": comma_list(formats, "--formats"),
        "precisions": comma_list(precisions, "--precisions"),
        "calibration": calibrate,
        "calibration_count": calibration_count,
        "seed": seed,
        "evaluate": evaluate,
        "evaluate_resize": evaluate_resize,
        "labels": labels,
        "synsets": synsets,
        "resize": resize,
        "crop_fraction": crop_fraction,
        "filter": filter,
        "preprocess": None if preprocess is None else Preprocess.parse(preprocess),
        "max_drop": max_drop,
        "recipe": recipe,
    }
    from mbn_deploy.sweep import run as sweeping

    sweeping.check(variants, output, options)
    with progress_bar() as progress, _executor(jobs, dask, output) as executor:
        found = sweeping.sweep(variants, output, executor=executor, latency=seconds, progress=progress, **options)
    _print(found, as_json=as_json)
    for record in found.failures:
        print_error(f"error: {record.name}: {record.error}")
    if found.failures:
        raise typer.Exit(_exit_code(found))


def _exit_code(found: Sweep) -> int:
    """That of the failures where all have one; else "an input that cannot be used"."""
    codes = {record.exit_code for record in found.failures}
    return codes.pop() if len(codes) == 1 else SOME_FAILED


@contextmanager
def _executor(jobs: int, dask: str | None, output: Path) -> Iterator[Executor]:
    from mbn_deploy.sweep.dask import dask_executor
    from mbn_deploy.sweep.processes import Processes

    with Processes(jobs) if dask is None else dask_executor(dask, output.absolute()) as executor:
        yield executor


def _variants(
    *,
    models: str | None,
    alphas: str | None,
    sizes: str | None,
    files: str | None,
    classes: int | None,
    weights: str | None,
) -> list[Variant]:
    from mbn_deploy.sweep import plan

    if models is None and files is None:
        raise UsageError("a sweep of nothing: name --models or --files")
    of_models = [("--alphas", alphas), ("--classes", classes), ("--weights", weights)]
    alone = [name for name, value in of_models if value is not None]
    if models is None and alone:
        raise UsageError(f"{', '.join(alone)} is for --models; files say it themselves")
    numbers = None if sizes is None else [int(n) for n in _numbers(sizes, "--sizes", whole=True)]
    found: list[Variant] = []
    if models is not None:
        more: dict[str, Any] = {"classes": classes, "weights": weights}
        found += plan.networks(
            comma_list(models, "--models"),
            (1.0,) if alphas is None else _numbers(alphas, "--alphas"),
            numbers or (224,),
            **{key: value for key, value in more.items() if value is not None},
        )
    if files is not None:
        found += plan.files(comma_list(files, "--files"), numbers or (None,))
    return found


def _numbers(text: str, option: str, *, whole: bool = False) -> tuple[float, ...]:
    try:
        values = tuple(float(int(part)) if whole else float(part) for part in comma_list(text, option))
    except (ValueError, OverflowError):  # a whole number may be too long for a float
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise UsageError(f"{option} {text!r}: {'whole ' * whole}numbers separated by commas are expected")
    return values


def _print(found: Sweep, *, as_json: bool) -> None:
    from mbn_deploy.sweep.table import to_dict

    if as_json:
        print_json(to_dict(found.rows, found.latency) | {"made": found.made, "folder": str(found.folder)})
        return
    shown = table("file", "size", "ms", "top-1 %", "agrees %", "front")
    for row in found.rows:
        if row.file is not None:
            shown.add_row(*_cells(row))
    console = stdout()
    console.print(shown)
    console.print()
    console.print("Front: no file is as accurate and faster (L), or smaller (S).")
    print_note(f"{found.made} of {len(found.records)} variants were made now. Look at {found.folder / 'table.html'}")


def _cells(row: Row) -> tuple[str, ...]:
    front = ("L" if row.latency_front else "") + ("S" if row.size_front else "")
    figures = (
        "-" if row.latency_p50 is None else f"{row.latency_p50:.2f}",
        *("-" if share is None else f"{100 * share:.1f}" for share in (row.top1, row.agreement)),
    )
    return plain(row.file or ""), human_bytes(row.bytes or 0), *figures, front or "-"
