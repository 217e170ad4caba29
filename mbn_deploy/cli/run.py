"""`mbn-deploy run BUNDLE|FILE IMAGE...` or `--camera SOURCE`: classify images or frames."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.arguments import check_count
from mbn_deploy.cli.answers_report import print_answer
from mbn_deploy.cli.exit_codes import INPUT, guarded
from mbn_deploy.cli.options import (
    CAMERA,
    Backend,
    FileLabels,
    FileScores,
    Isolate,
    Json,
    Precision,
    PreprocessText,
    Resize,
    Target,
    Threads,
    model_summary,
    path_argument,
)
from mbn_deploy.cli.output import print_error, print_json, print_note
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime import Classifier, FrameSource, ModelInfo, StreamResult, frames
from mbn_deploy.runtime.camera import SOURCES, parse_size
from mbn_deploy.runtime.decoding import answer_json
from mbn_deploy.text import plural

_SOURCES = "; ".join(f"{kind.usage}: {kind.about}" for kind in SOURCES.values())


@dataclass(frozen=True)
class Asked:
    """The names that are shown for each image, and whether as JSON."""

    top_k: int | None
    threshold: float | None
    as_json: bool


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
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Number of names to show for each image. [default: 5 classes, or all labels that reach the threshold]"
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Leave out names with a lower probability. [default: 0.5 for labels, none for others]"),
    ] = None,
    precision: Precision = None,
    backend: Backend = None,
    threads: Threads = None,
    labels: FileLabels = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    scores: FileScores = None,
    isolate: Isolate = None,
    as_json: Json = False,
) -> None:
    """Print what the model answers to each image or frame: likely names, values, or a feature vector.

    Images that cannot be read are named, the others are still classified, and the exit code is 3. With --camera and
    --json, each frame is printed as a line of JSON as soon as it is classified.
    """
    if (camera is None) != bool(images):
        raise UsageError("give either image files or --camera SOURCE" + (", not both" if images else ""))
    if camera is None and (count is not None or frame_size is not None):
        raise UsageError("--frames and --frame-size need --camera")
    if count is not None:
        check_count("--frames", count)
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
            scores=scores,
            isolate=isolate,
        )
    with opened as classifier:
        for assumption in classifier.info.assumptions:
            print_note(assumption)
        asked = Asked(top_k=top_k, threshold=threshold, as_json=as_json)
        if camera is None:
            all_readable = _answer_images(classifier, images or [], asked)
        else:
            with frames(camera, size=size) as source:
                _announce(classifier, source)
                all_readable = _answer_frames(classifier, source, asked, count)
    if not all_readable:
        raise typer.Exit(INPUT)


def _answer_images(classifier: Classifier, images: list[Path], asked: Asked) -> bool:
    """Answer and print image files; return whether all could be read."""
    all_readable = True
    results: list[dict[str, Any]] = []
    for image in images:
        try:
            answer = classifier.answer(image, asked.top_k, threshold=asked.threshold)
        except InputError as error:
            all_readable = False
            print_error(f"error: {error}")
            results.append({"image": str(image), "error": str(error)})
            continue
        results.append({"image": str(image), **answer_json(answer, classifier.info.answers.meaning)})
        if not asked.as_json:
            print_answer(str(image), answer, classifier.info)
    if asked.as_json:
        print_json({"model": model_summary(classifier.info), "images": results})
    return all_readable


def _answer_frames(classifier: Classifier, source: FrameSource, asked: Asked, count: int | None) -> bool:
    """Answer and print frames; return whether all could be read."""
    all_readable = True
    stream = classifier.answer_stream(source, asked.top_k, threshold=asked.threshold, on_error="yield")
    with closing(stream) as results:
        for result in islice(results, count):
            if result.error is not None:
                all_readable = False
                print_error(f"error: {result.error}")
            if asked.as_json:
                sys.stdout.write(json.dumps(_record(result, classifier.info), allow_nan=False) + "\n")
            elif result.error is None:
                print_answer(result.source.name, result.answer, classifier.info)
            sys.stdout.flush()  # a program that reads a pipe gets it at once
    return all_readable


def _record(result: StreamResult, info: ModelInfo) -> dict[str, Any]:
    outcome = answer_json(result.answer, info.answers.meaning) if result.error is None else {"error": str(result.error)}
    return {"frame": result.index, "name": result.source.name, **outcome}


def _announce(classifier: Classifier, source: FrameSource) -> None:
    info = classifier.info
    threads = plural(info.threads, "thread")
    dropping = "frames that come too fast are dropped" if source.live else "every frame is classified"
    print_note(f"{info.path}: {info.precision}, {info.backend}, {threads}; {source.name}: {dropping}; Ctrl-C ends it")
