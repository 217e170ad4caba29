"""`mbn-deploy serve BUNDLE|FILE`: a page and an HTTP interface."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.exit_codes import INTERRUPTED, guarded
from mbn_deploy.cli.options import (
    CAMERA,
    Backend,
    FileLabels,
    Json,
    Precision,
    PreprocessText,
    Resize,
    Target,
    Threads,
    classifier_facts,
)
from mbn_deploy.cli.output import plain, print_error, print_note
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import MissingExtraError, UsageError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.camera import SOURCES, FrameSource, frames, parse_size

if TYPE_CHECKING:
    from mbn_deploy.serve.server import Ready

# Headings of `--help`.
ACCESS = "Access"
LIMITS = "Limits of an upload"

ONCE = ("-", "latest:-")  # stdin cannot be opened to try it: what is read is gone


@guarded
def serve(
    path: Target,
    *,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; with any but this machine's own, a token is asked for.", rich_help_panel=ACCESS
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes any that is free.", rich_help_panel=ACCESS)
    ] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MBN_DEPLOY_TOKEN",
            help="What clients must know; better given by the variable, which other users of the machine cannot see. "
            "Generated and printed where it is needed and not given.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name of this server, as a proxy uses it.", rich_help_panel=ACCESS),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(kind.usage for kind in SOURCES.values()),
            help="What can be watched on the page.",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    frame_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="What to ask a camera for.", rich_help_panel=CAMERA)
    ] = None,
    fps: Annotated[
        float, typer.Option(min=0.01, max=100, help="Most frames a second that are looked at.", rich_help_panel=CAMERA)
    ] = 10,
    max_upload: Annotated[
        float, typer.Option(min=0.001, max=1000, help="Largest file of a picture, MB.", rich_help_panel=LIMITS)
    ] = 10,
    max_pixels: Annotated[
        float,
        typer.Option(
            min=0.04,
            max=89,
            help="Largest JPEG, millions of pixels; other pictures: a quarter.",
            rich_help_panel=LIMITS,
        ),
    ] = 50,
    upload_timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds for one upload.", rich_help_panel=LIMITS)
    ] = 30,
    precision: Precision = None,
    backend: Backend = None,
    threads: Threads = None,
    labels: FileLabels = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    as_json: Json = False,
) -> None:
    """A page that classifies pictures, and `POST /classify` for programs; until Ctrl-C or SIGTERM."""
    try:
        from mbn_deploy.serve.limits import Limits
        from mbn_deploy.serve.server import Options
        from mbn_deploy.serve.server import serve as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("starlette", "uvicorn", "anyio", "h11"):
            raise
        raise MissingExtraError(error.name, "serve", "for a server") from None
    limits = Limits(
        upload_bytes=round(max_upload * 1e6),
        pixels=round(max_pixels * 1e6),
        upload_seconds=upload_timeout,
        buffered_bytes=max(Limits.buffered_bytes, round(2 * max_upload * 1e6)),
    )
    opener = _opener(camera, frame_size)
    options = Options(host, port, token, tuple(allow_host or ()), limits, opener, fps)
    with hide_startup_messages():
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
        facts = classifier_facts(classifier.info)
        ended_by = run(classifier, options, lambda ready: _announce(ready, facts, as_json=as_json))
    if ended_by == signal.SIGINT:
        print_error("interrupted")
        raise typer.Exit(INTERRUPTED)


def _opener(camera: str | None, frame_size: str | None) -> Callable[[], FrameSource] | None:
    """Opens the camera whenever somebody begins to watch; it is tried once here, so that errors come at once."""
    size = None if frame_size is None else parse_size(frame_size)
    if camera is None:
        if size is not None:
            raise UsageError("--frame-size is for --camera")
        return None
    source = camera
    if source in ONCE:
        if size is not None:
            raise UsageError(f"--camera {source} takes JPEGs here: who begins to watch raw frames begins inside of one")
    else:
        frames(source, size=size).close()
    return lambda: frames(source, size=size)


def _announce(ready: Ready, facts: dict[str, Any], *, as_json: bool) -> None:
    """Where the server is: one line of JSON, or words with the address on stdout."""
    if as_json:
        line = {"url": ready.url, "host": ready.host, "port": ready.port, **facts}
        if ready.generated:
            line["token"] = ready.token
        sys.stdout.write(json.dumps(line) + "\n")
    else:
        said = "{model} ({precision}, {backend}, {threads} threads)".format(**facts)
        print_note(f"serving {said}; Ctrl-C ends it")
        if ready.generated:
            print_note("open this address once in a browser; programs send the token: Authorization: Bearer TOKEN")
        sys.stdout.write(plain(ready.login_url if ready.generated else ready.url) + "\n")
    sys.stdout.flush()
