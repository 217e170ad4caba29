"""`mbn-deploy run BUNDLE|FILE IMAGE...` or `--camera SOURCE`: classify images or frames."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.cli.exit_codes import INPUT, guarded
from mbn_deploy.cli.options import (
    CAMERA,
    INTERPRETER,
    Backend,
    FileLabels,
    Json,
    Precision,
    PreprocessText,
    Resize,
    Target,
    Threads,
    model_summary,
    path_argument,
)
from mbn_deploy.cli.output import plain, print_error, print_json, print_note, stdout
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime import Classifier, FrameSource, Prediction, StreamResult, frames
from mbn_deploy.runtime.camera import SOURCES, parse_size
from mbn_deploy.text import plural

_SOURCES = "; ".join(f"{kind.usage}: {kind.about}" for kind in SOURCES.values())


@guarded
def run(
    path: Target,
    images: Annotated[list[Path] | None, path_argument("IMAGE", "Image files to classify.")] = None,
    *,
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help=f"Classify frames instead of image files, until they end or Ctrl-C is pressed. {_SOURCES}.",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--frames", help="Number of frames after which to end.", rich_help_panel=CAMERA)
    ] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Frame size to request from a camera, or the size of raw frames on stdin. [default: 640x480]",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Number of classes to show for each image.")] = 5,
    precision: Precision = None,
    backend: Backend = None,
    threads: Threads = None,
    labels: FileLabels = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate",
            help="Run the interpreter in a child process with limits on memory and time, for files of unknown origin.",
            rich_help_panel=INTERPRETER,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the most likely classes of each image or frame.

    Images that cannot be read are named, the others are still classified, and the exit code is 3. With --camera and
    --json, each frame is printed as a line of JSON as soon as it is classified.
    """
    if (camera is None) != bool(images):
        raise UsageError("give either image files or --camera SOURCE" + (", not both" if images else ""))
    if camera is None and (count is not None or frame_size is not None):
        raise UsageError("--frames and --frame-size need --camera")
    if count is not None and count < 1:
        raise UsageError(f"--frames must be at least 1, not {count}")
    size = None if frame_size is None else parse_size(frame_size)
    with hide_startup_messages():
        opened = Classifier.open(
            path,
            precision=precision,
            backend=backend,
            threads=threads,
            labels=labels,
            resize=resize,
            preprocess=preprocess,
            isolate=isolate,
        )
    with opened as classifier:
        if camera is None:
            all_readable = _classify_images(classifier, images or [], top_k, as_json=as_json)
        else:
            with frames(camera, size=size) as source:
                _announce(classifier, source)
                all_readable = _classify_frames(classifier, source, top_k, count, as_json=as_json)
    if not all_readable:
        raise typer.Exit(INPUT)


def _classify_images(classifier: Classifier, images: list[Path], top_k: int, *, as_json: bool) -> bool:
    """Classify and print image files; return whether all could be read."""
    all_readable = True
    results: list[dict[str, Any]] = []
    for image in images:
        try:
            predictions = classifier.classify(image, top_k)
        except InputError as error:
            all_readable = False
            print_error(f"error: {error}")
            results.append({"image": str(image), "error": str(error)})
            continue
        results.append({"image": str(image), "predictions": [asdict(p) for p in predictions]})
        if not as_json:
            _print(str(image), predictions)
    if as_json:
        print_json({"model": model_summary(classifier.info), "images": results})
    return all_readable


def _classify_frames(
    classifier: Classifier, source: FrameSource, top_k: int, count: int | None, *, as_json: bool
) -> bool:
    """Classify and print frames; return whether all could be read."""
    all_readable = True
    with closing(classifier.classify_stream(source, top_k, on_error="yield")) as results:
        for result in islice(results, count):
            if result.error is not None:
                all_readable = False
                print_error(f"error: {result.error}")
            if as_json:
                sys.stdout.write(json.dumps(_record(result), allow_nan=False) + "\n")
            elif result.error is None:
                _print(result.source.name, result.predictions)
            sys.stdout.flush()  # a program that reads a pipe gets it at once
    return all_readable


def _record(result: StreamResult) -> dict[str, Any]:
    outcome: dict[str, Any] = {"predictions": [asdict(p) for p in result.predictions]}
    if result.error is not None:
        outcome = {"error": str(result.error)}
    return {"frame": result.index, "name": result.source.name, **outcome}


def _announce(classifier: Classifier, source: FrameSource) -> None:
    info = classifier.info
    threads = plural(info.threads, "thread")
    dropping = "frames that come too fast are dropped" if source.live else "every frame is classified"
    print_note(f"{info.path}: {info.precision}, {info.backend}, {threads}; {source.name}: {dropping}; Ctrl-C ends it")


def _print(name: str, predictions: list[Prediction]) -> None:
    console = stdout()
    console.print(plain(name), soft_wrap=True)
    for prediction in predictions:
        console.print(f"  {plain(str(prediction))}", soft_wrap=True)
