"""`mbn-deploy sweep -o DIR`: many variants, a bundle each, and a table that compares them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.bundle_table import figure_text
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.export_options import with_options
from mbn_deploy.cli.options import Json, comma_list, path_option
from mbn_deploy.cli.output import human_bytes, plain, print_error, print_json, print_note, stdout, table
from mbn_deploy.cli.progress_bar import progress_bar
from mbn_deploy.errors import UsageError
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.verify.measures.measure import METRICS

if TYPE_CHECKING:
    from mbn_deploy.sweep.plan import Variant
    from mbn_deploy.sweep.run import Sweep
    from mbn_deploy.sweep.table import Row

SOME_FAILED = 3
VARIANTS, WORK = "Variants", "Work"  # headings of --help


@guarded
@with_options(ExportOptions, sweep=True, defaults={"precisions": ("float32", "int8")})
def sweep(
    *,
    output: Annotated[
        Path, path_option("--output", "-o", help="Folder of bundles and tables. An earlier sweep in it is continued.")
    ],
    models: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Names of models (see `mbn-deploy list`).", rich_help_panel=VARIANTS),
    ] = None,
    alphas: Annotated[
        str | None,
        typer.Option(metavar="α,...", help="Width multipliers of --models. [default: 1.0]", rich_help_panel=VARIANTS),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Input heights and widths. [default: 224 for --models, a file's own for --files]",
            rich_help_panel=VARIANTS,
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="FILE,...", help=".keras and .h5 files, beside --models or instead.", rich_help_panel=VARIANTS
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes of --models. [default: 1000]", rich_help_panel=VARIANTS)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|DIR",
            help="Weights of --models: trained on ImageNet, random, or a folder of files named "
            "<model>_<alpha>_<size>.weights.h5. [default: imagenet]",
            rich_help_panel=VARIANTS,
        ),
    ] = None,
    options: dict[str, Any],
    jobs: Annotated[
        int, typer.Option(help="Number of processes on this machine that export side by side.", rich_help_panel=WORK)
    ] = 1,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a Dask scheduler, whose workers export instead: tcp://host:8786.",
            rich_help_panel=WORK,
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            help="Seconds for which the latency of each file is measured on this machine at the end; 0 for no latency.",
            rich_help_panel=WORK,
        ),
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Export every combination of model, width and size, and compare all files in a table with its Pareto fronts.

    Bundles that were exported with the same options before are kept. A variant that fails does not stop the others.
    """
    if dask is not None and jobs != 1:
        raise UsageError("--jobs is for processes on this machine, --dask for a cluster: give one of them")
    variants = _variants(models=models, alphas=alphas, sizes=sizes, files=files, classes=classes, weights=weights)
    from mbn_deploy.sweep import run

    export_options = ExportOptions(**options)
    run.check(variants, output, export_options)
    with progress_bar() as progress, _executor(jobs, dask, output) as executor:
        result = run.sweep(variants, output, export_options, executor=executor, latency=seconds, progress=progress)
    _print(result, as_json=as_json)
    for record in result.failures:
        print_error(f"error: {record.name}: {record.error}")
    if result.failures:
        raise typer.Exit(_exit_code(result))


def _exit_code(result: Sweep) -> int:
    """Return the exit code of the failures if it is the same for all, else that of an unusable input."""
    codes = {record.exit_code for record in result.failures}
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
        raise UsageError("there is nothing to sweep: name --models or --files")
    of_models = [("--alphas", alphas), ("--classes", classes), ("--weights", weights)]
    alone = [name for name, value in of_models if value is not None]
    if models is None and alone:
        raise UsageError(f"{', '.join(alone)} is for --models; files fix it themselves")
    numbers = None if sizes is None else [int(n) for n in _numbers(sizes, "--sizes", whole=True)]
    variants: list[Variant] = []
    if models is not None:
        more: dict[str, Any] = {"classes": classes, "weights": weights}
        variants += plan.networks(
            comma_list(models, "--models"),
            (1.0,) if alphas is None else _numbers(alphas, "--alphas"),
            numbers or (224,),
            **{key: value for key, value in more.items() if value is not None},
        )
    if files is not None:
        variants += plan.files(comma_list(files, "--files"), numbers or (None,))
    return variants


def _numbers(text: str, option: str, *, whole: bool = False) -> tuple[float, ...]:
    try:
        values = tuple(float(int(part)) if whole else float(part) for part in comma_list(text, option))
    except (ValueError, OverflowError):  # a whole number may be too long for a float
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise UsageError(f"{option} {text!r}: {'whole ' * whole}numbers separated by commas are expected")
    return values


def _print(result: Sweep, *, as_json: bool) -> None:
    from mbn_deploy.sweep.table import to_dict

    if as_json:
        print_json(to_dict(result.rows, result.latency) | {"made": result.made, "folder": str(result.folder)})
        return
    files = [row for row in result.rows if row.file is not None]
    scores = list(dict.fromkeys(row.score for row in files if row.score not in (None, "agreement")))
    rows = table("file", "size", "ms", *(METRICS[score or ""].short for score in scores), "agrees %", "front")
    for row in files:
        rows.add_row(*_cells(row, scores))
    console = stdout()
    console.print(rows)
    console.print()
    console.print("Front: no other file is at least as accurate and faster (L) or smaller (S).")
    print_note(f"{result.made} of {len(result.records)} variants were exported now. See {result.folder / 'table.html'}")


def _cells(row: Row, scores: Sequence[str | None]) -> tuple[str, ...]:
    front = ("L" if row.latency_front else "") + ("S" if row.size_front else "")
    figures = (
        "-" if row.latency_p50 is None else f"{row.latency_p50:.2f}",
        *("-" if score is None or row.score != score else figure_text(METRICS[score], row.value) for score in scores),
        "-" if row.agreement is None else f"{100 * row.agreement:.1f}",
    )
    return plain(row.file or ""), human_bytes(row.bytes or 0), *figures, front or "-"
