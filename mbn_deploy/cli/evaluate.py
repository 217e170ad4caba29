"""`mbn-deploy evaluate BUNDLE|FILE --data DIR`: measure accuracy, with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mbn_deploy.cli.evaluation_tables import print_evaluation
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import (
    Backend,
    FileLabels,
    FileScores,
    Isolate,
    Json,
    OnlyPrecision,
    PreprocessText,
    Resize,
    Synsets,
    Target,
    Threads,
    path_option,
)
from mbn_deploy.cli.output import print_json
from mbn_deploy.cli.progress_bar import progress_bar
from mbn_deploy.pipeline.label_names import read_synsets
from mbn_deploy.verify.measures.measure import THRESHOLD
from mbn_deploy.verify.record import evaluation_record

DATA = "Data"  # a heading of `--help`


@guarded
def evaluate(
    path: Target,
    *,
    data: Annotated[
        Path,
        path_option(
            help="Folder of labelled images: one sub-folder for each class, named by label, synset or index (from 0). "
            "Or a CSV table of image files with their classes, labels or values.",
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
    scores: FileScores = None,
    isolate: Isolate = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Use only this many images, selected by --seed. [default: all]", rich_help_panel=DATA),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed that selects the images of --limit.", rich_help_panel=DATA)
    ] = 0,
    threshold: Annotated[
        float,
        typer.Option(
            help="Probability from which on a label counts as given, and above which a binary model's answer is "
            "positive.",
            rich_help_panel=DATA,
        ),
    ] = THRESHOLD,
    as_json: Json = False,
) -> None:
    """Measure the accuracy of every file, and its agreement with float32, on the same images.

    What is measured depends on the answers: top-1 and the confusions of classes; both kinds of error of a binary model;
    the average precision of labels; the mean absolute error of values; the nearest neighbours of embeddings.
    """
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
            scores=scores,
            isolate=isolate,
            limit=limit,
            seed=seed,
            threshold=threshold,
            progress=progress,
        )
    if as_json:
        print_json(evaluation_record(evaluation))
    else:
        print_evaluation(evaluation)
