"""`mbn-deploy run BUNDLE|FILE IMAGE...`: predictions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.cli.common import INPUT, Json, complain, guarded, plain, print_json, stdout, without_greetings
from mbn_deploy.cli.options import Backend, FileLabels, PreprocessText, Resize, Target, Threads, path_argument
from mbn_deploy.errors import InputError
from mbn_deploy.runtime import Classifier, Prediction


@guarded
def run(
    path: Target,
    images: Annotated[list[Path], path_argument("IMAGE", "Image files.")],
    *,
    top_k: Annotated[int, typer.Option(help="How many classes are shown for each image.")] = 5,
    precision: Annotated[
        str | None, typer.Option(help="Which file of a bundle; by default int8 if there is one.")
    ] = None,
    backend: Backend = None,
    threads: Threads = None,
    labels: FileLabels = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    as_json: Json = False,
) -> None:
    """The most likely classes of each image. An unreadable image is named, the others still run (exit 3)."""
    failed = False
    found: list[dict[str, Any]] = []
    with without_greetings():
        opened = Classifier.open(
            path,
            precision=precision,
            backend=backend,
            threads=threads,
            labels=labels,
            resize=resize,
            preprocess=preprocess,
        )
    with opened as classifier:
        for image in images:
            try:
                predictions = classifier.classify(image, top_k)
            except InputError as error:
                failed = True
                complain(f"error: {error}")
                found.append({"image": str(image), "error": str(error)})
                continue
            found.append({"image": str(image), "predictions": [asdict(p) for p in predictions]})
            if not as_json:
                _print(image, predictions)
        if as_json:
            print_json({"model": _facts(classifier), "images": found})
    if failed:
        raise typer.Exit(INPUT)


def _print(image: Path, predictions: list[Prediction]) -> None:
    console = stdout()
    console.print(plain(str(image)), soft_wrap=True)
    for prediction in predictions:
        console.print(f"  {plain(str(prediction))}", soft_wrap=True)


def _facts(classifier: Classifier) -> dict[str, Any]:
    info = classifier.info
    return {
        "path": info.path,
        "model": info.model,
        "format": info.format,
        "precision": info.precision,
        "backend": info.backend,
        "threads": info.threads,
        "threads_from": info.threads_from,
    }
