"""`mbn-deploy serve BUNDLE|FILE`: a web page and an HTTP interface that classify images."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.exit_codes import INTERRUPTED, guarded
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
)
from mbn_deploy.cli.output import plain, print_error, print_note
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import MissingExtraError, UsageError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.camera import SOURCES, FrameSource, frames, parse_size
from mbn_deploy.text import plural

if TYPE_CHECKING:
    from mbn_deploy.serve.server import ServerAddress

# Headings of `--help`.
ACCESS = "Access"
LIMITS = "Limits of an upload"

STDIN_SOURCES = ("-", "latest:-")  # cannot be tried at the start: what is read from stdin is gone


@guarded
def serve(
    path: Target,
    *,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. If other machines can reach it, clients need a token.", rich_help_panel=ACCESS
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.", rich_help_panel=ACCESS)
    ] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MBN_DEPLOY_TOKEN",
            help="Token that clients must send. Better set the variable: other users of the machine can see options. "
            "[default: generated and printed if one is needed]",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Further host name of this server, for example that of a proxy. May be repeated.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(kind.usage for kind in SOURCES.values()),
            help="Source of frames to show on the page.",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Frame size to request from a camera. [default: 640x480]", rich_help_panel=CAMERA
        ),
    ] = None,
    fps: Annotated[
        float,
        typer.Option(
            min=0.01, max=100, help="Largest number of frames to classify per second.", rich_help_panel=CAMERA
        ),
    ] = 10,
    max_upload: Annotated[
        float, typer.Option(min=0.001, max=1000, help="Largest image file, in MB.", rich_help_panel=LIMITS)
    ] = 10,
    max_pixels: Annotated[
        float,
        typer.Option(
            min=0.04,
            max=89,
            help="Largest JPEG, in millions of pixels; other formats may have a quarter.",
            rich_help_panel=LIMITS,
        ),
    ] = 50,
    upload_timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Longest time for one upload, in seconds.", rich_help_panel=LIMITS)
    ] = 30,
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
    """Serve a web page and an HTTP interface that classify images, until Ctrl-C or SIGTERM."""
    try:
        from mbn_deploy.serve.limits import Limits
        from mbn_deploy.serve.server import ServerOptions
        from mbn_deploy.serve.server import serve as run_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("starlette", "uvicorn", "anyio", "h11"):
            raise
        raise MissingExtraError(error.name, "serve", "to run a server") from None
    limits = Limits(
        upload_bytes=round(max_upload * 1e6),
        pixels=round(max_pixels * 1e6),
        upload_seconds=upload_timeout,
        buffered_bytes=max(Limits.buffered_bytes, round(2 * max_upload * 1e6)),
    )
    options = ServerOptions(
        host=host,
        port=port,
        token=token,
        names=tuple(allow_host or ()),
        limits=limits,
        camera=_camera_opener(camera, frame_size),
        frames_per_second=fps,
    )
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
        model, assumptions = model_summary(classifier.info), classifier.info.assumptions
        ended_by = run_server(classifier, options, lambda at: _announce(at, model, assumptions, as_json=as_json))
    if ended_by == signal.SIGINT:
        print_error("interrupted")
        raise typer.Exit(INTERRUPTED)


def _camera_opener(camera: str | None, frame_size: str | None) -> Callable[[], FrameSource] | None:
    """Return a function that opens the camera, or None without one.

    The server calls it whenever the first viewer comes. The camera is opened once here, so that errors are reported
    at the start.
    """
    size = None if frame_size is None else parse_size(frame_size)
    if camera is None:
        if size is not None:
            raise UsageError("--frame-size needs --camera")
        return None
    source = camera
    if source not in STDIN_SOURCES:
        frames(source, size=size).close()
    elif size is not None:
        raise UsageError(
            f"--camera {source} takes JPEGs only, no raw frames of a --frame-size: a viewer would join in the middle "
            "of a frame"
        )
    return lambda: frames(source, size=size)


def _announce(at: ServerAddress, model: dict[str, Any], assumptions: Sequence[str], *, as_json: bool) -> None:
    """Print where the server answers: a line of JSON, or the address on stdout and explanations on stderr."""
    for assumption in assumptions:
        _note(assumption)
    if as_json:
        line = {"url": at.url, "host": at.host, "port": at.port, **model}
        if at.generated:
            line["token"] = at.token
        sys.stdout.write(json.dumps(line) + "\n")
    else:
        threads = plural(model["threads"], "thread")
        _note(f"Serving {model['model']} ({model['precision']}, {model['backend']}, {threads}). Ctrl-C ends it.")
        if at.generated:
            _note(
                "Open this address once in your browser, to log in. "
                "Programs send the token as a header: Authorization: Bearer TOKEN"
            )
        sys.stdout.write(plain(at.login_url if at.generated else at.url) + "\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    """Print a note, if anybody reads stderr; the server is of use without it."""
    with suppress(OSError):
        print_note(text)
