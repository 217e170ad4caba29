"""`mbn-deploy evaluate BUNDLE|FILE --data DIR`: measure accuracy, with confidence intervals."""

from __future__ import annotations

from dataclasses import asdict, replace
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
)
from mbn_deploy.cli.output import plain, print_json, stdout, table
from mbn_deploy.cli.progress_bar import progress_bar
from mbn_deploy.pipeline.label_names import read_synsets
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.statistics import Estimate

DATA = "Data"  # a heading of `--help`


@guarded
def evaluate(
    path: Target,
    *,
    data: Annotated[
        Path,
        path_option(
            help="Folder of labelled images: one sub-folder for each class, named by label, synset or index (from 0).",
            panel=DATA,
        ),
    ],
    labels: FileLabels = None,
    synsets: Synsets = None,
    precision: OnlyPrecision = None,
    backend: Backend = None,
    threads: Threads = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Use only this many images, selected by --seed. [default: all]", rich_help_panel=DATA),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed that selects the images of --limit.", rich_help_panel=DATA)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Measure top-1 and top-5 accuracy of every file, and its agreement with float32, on the same images."""
    from mbn_deploy.verify.files import evaluate_files

    with progress_bar() as progress:
        evaluation = evaluate_files(
            path,
            data,
            precision=precision,
            backend=backend,
            threads=threads,
            labels=labels,
            synsets=read_synsets(synsets),
            resize=resize,
            preprocess=preprocess,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    if as_json:
        values = asdict(replace(evaluation, answers={}))
        del values["answers"]  # arrays, which only the report uses
        print_json(values)
    else:
        print_evaluation(evaluation)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a row for each file: accuracy and agreement in percent, with 95 % confidence intervals."""
    console = stdout()
    more = ["agrees %", "top-1 change"] if evaluation.comparison else []
    rows = table("file", "top-1 %", "top-5 %", *more)
    for name, accuracy in evaluation.accuracy.items():
        row = [with_interval(accuracy.top1), f"{100 * accuracy.top5.value:.1f}"]
        comparison = evaluation.comparison.get(name)
        if comparison is not None:
            difference = comparison.top1_difference
            change = "-" if difference is None else with_interval(difference, sign="+")
            row += [f"{100 * comparison.agreement.value:.1f}", change]
        rows.add_row(plain(name), *row)
    console.print(rows)
    console.print()
    console.print(
        f"{evaluation.images} images of {plain(evaluation.dataset)!r}; 95 % confidence intervals in brackets."
    )
    if evaluation.comparison:
        reference = next(iter(evaluation.comparison.values())).reference
        console.print(f"Agreement and change are relative to {plain(reference)}, image by image.")


def with_interval(estimate: Estimate, sign: str = "") -> str:
    """Format an estimate and its interval in percent: `71.2 [69.0, 73.3]`."""
    value, low, high = (100 * part for part in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
