"""`mbn-deploy evaluate BUNDLE|FILE --data DIR`: accuracy with confidence intervals."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import (
    Backend,
    FileLabels,
    Json,
    OnlyPrecision,
    PreprocessText,
    Resize,
    Synsets,
    Target,
    Threads,
    path_option,
    synsets_of,
)
from mbn_deploy.cli.output import plain, print_json, stdout, table
from mbn_deploy.cli.progress_bar import progress_bar
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.statistics import Estimate

DATA = "Data"  # a heading of `--help`


@guarded
def evaluate(
    path: Target,
    *,
    data: Annotated[
        Path,
        path_option(help="Folder with one sub-folder a class, named by label, synset or index (from 0).", panel=DATA),
    ],
    labels: FileLabels = None,
    synsets: Synsets = None,
    precision: OnlyPrecision = None,
    backend: Backend = None,
    threads: Threads = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    limit: Annotated[
        int | None, typer.Option(help="Only this many images, chosen by --seed.", rich_help_panel=DATA)
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed that selects the images of --limit.", rich_help_panel=DATA)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Top-1 and top-5 of every file, and how far it agrees with the float32 one, on the same images."""
    from mbn_deploy.verify.files import evaluate_files

    with progress_bar() as progress:
        found = evaluate_files(
            path,
            data,
            precision=precision,
            backend=backend,
            threads=threads,
            labels=labels,
            synsets=synsets_of(synsets),
            resize=resize,
            preprocess=preprocess,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    if as_json:
        print_json(asdict(found))
    else:
        print_evaluation(found)


def print_evaluation(found: Evaluation) -> None:
    """A row a file: shares in percent, with 95 % intervals."""
    console = stdout()
    more = ["agrees %", "top-1 change"] if found.comparison else []
    shown = table("file", "top-1 %", "top-5 %", *more)
    for name, accuracy in found.accuracy.items():
        row = [with_interval(accuracy.top1), f"{100 * accuracy.top5.value:.1f}"]
        compared = found.comparison.get(name)
        if compared is not None:
            difference = compared.top1_difference
            change = "-" if difference is None else with_interval(difference, sign="+")
            row += [f"{100 * compared.agreement.value:.1f}", change]
        shown.add_row(plain(name), *row)
    console.print(shown)
    console.print()
    console.print(f"{found.images} images of {plain(found.dataset)!r}; in brackets 95 % confidence intervals.")
    if found.comparison:
        reference = next(iter(found.comparison.values())).reference
        console.print(f"Agreement and change are against {plain(reference)}, image by image.")


def with_interval(estimate: Estimate, sign: str = "") -> str:
    """`71.2 [69.0, 73.3]`, in percent."""
    value, low, high = (100 * part for part in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
