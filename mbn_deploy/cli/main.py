"""The entry point `mbn-deploy`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mbn_deploy.cli.benchmark import benchmark
from mbn_deploy.cli.bundle import bundle
from mbn_deploy.cli.check_apk import check_apk
from mbn_deploy.cli.demo import demo
from mbn_deploy.cli.describe import describe
from mbn_deploy.cli.doctor import doctor
from mbn_deploy.cli.evaluate import evaluate
from mbn_deploy.cli.exit_codes import INPUT, close_stdout
from mbn_deploy.cli.export import export
from mbn_deploy.cli.help_screen import Command, Group, examples
from mbn_deploy.cli.inspect import inspect
from mbn_deploy.cli.list import list_models
from mbn_deploy.cli.output import print_error
from mbn_deploy.cli.run import run
from mbn_deploy.cli.serve import serve
from mbn_deploy.cli.sweep import sweep
from mbn_deploy.cli.verify import verify
from mbn_deploy.version import __version__

app = typer.Typer(
    name="mbn-deploy",
    cls=Group,
    help="Deploy Keras MobileNets (V1, V2, V3) on phones and ARM boards: TFLite and ONNX, float and int8, verified.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`mbn-deploy COMMAND --help` shows options and examples. Exit codes: 0 done; 1 a bug; 2 wrong use; "
    "3 an input that cannot be used; 4 a missing extra; 5 a verification failed; 130 interrupted.",
)


def _add(command: Callable[..., None], heading: str, summary: str, *lines: str, name: str | None = None) -> None:
    """Register a command: the heading and the line (at most 65 characters) that list it, and examples to copy."""
    register = app.command(name, cls=Command, rich_help_panel=heading, short_help=summary, epilog=examples(*lines))
    register(command)


_FIRST, _WORKSTATION, _DEVICE, _PACKAGES = "Start here", "On the workstation", "On the device", "Packages"

_add(demo, _FIRST, "Export, quantize and classify digits, offline, in a minute.", "demo")
_add(doctor, _FIRST, "Show what this machine can run, and what to install.", "doctor")
_add(
    list_models,
    _WORKSTATION,
    "List the named models, with parameters and multiply-adds.",
    "list",
    name="list",
)
_add(
    describe,
    _WORKSTATION,
    "Show a named model's layers, and what they cost.",
    "describe mobilenet_v2 --alpha 0.5 --size 160",
)
_add(
    export,
    _WORKSTATION,
    "Turn a Keras model into TFLite and ONNX files, float and int8.",
    "export mobilenet_v2 -o dist --calibrate photos/",
    "export flowers.keras -o dist --preprocess tf --calibrate photos/ --evaluate held-back/",
)
_add(
    sweep,
    _WORKSTATION,
    "Export many models, widths and sizes, and compare them.",
    "sweep -o sweep --models mobilenet_v1,mobilenet_v2 --alphas 0.5,1.0 --calibrate photos/",
)
_add(
    evaluate,
    _WORKSTATION,
    "Measure top-1 and top-5 of every file, and their agreement.",
    "evaluate dist --data held-back/",
    "evaluate model.tflite --data held-back/ --preprocess tf",
)
_add(
    inspect,
    _WORKSTATION,
    "Show what is in a model file, and which int8 layers lose most.",
    "inspect dist/f_int8.tflite --ops --delegate",
    "inspect dist/f_int8.tflite --reference dist/f_float32.tflite --data photos/",
)
_add(
    run,
    _DEVICE,
    "Classify images, or the frames of a camera.",
    "run dist cat.jpg dog.jpg --top-k 3",
    "run dist --camera v4l2:/dev/video0",
)
_add(verify, _DEVICE, "Check that this machine computes what the export computed.", "verify dist")
_add(
    benchmark,
    _DEVICE,
    "Measure the time from image to answer; find the best threads.",
    "benchmark dist",
    "benchmark dist --tune",
    "benchmark dist --compare old.json",
)
_add(
    serve,
    _DEVICE,
    "Serve a web page and an HTTP interface that classify images.",
    "serve dist",
    "serve dist --host 0.0.0.0 --camera picamera2",
)
_add(
    check_apk,
    _PACKAGES,
    "Find what will break an Android app's models on a phone.",
    "check-apk app-release.apk --bundle dist",
    name="check-apk",
)
app.add_typer(
    bundle,
    name="bundle",
    rich_help_panel=_PACKAGES,
    short_help="Build for a Raspberry Pi, Android, iOS or a microcontroller.",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 (typer calls it with the flag's value)
    if wanted:
        sys.stdout.write(f"mbn-deploy {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _open_closed_streams() -> None:
    """Open the standard streams that the caller had closed (`2>&-`) to nowhere: Python has None in their place."""
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _LossyFile(io.FileIO):
    """A stream whose writes always succeed: a message that a full or closed stderr does not take is lost."""

    def write(self, data: Any) -> int:
        """Write bytes; return how many."""
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def main() -> None:
    """Run the command line; never returns."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter gets its escape
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # without TensorFlow's startup messages
    lossy = io.BufferedWriter(_LossyFile(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(
        lossy, encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True, write_through=True
    )
    try:
        app()
    except SystemExit as ended:
        sys.exit(close_stdout(ended.code if isinstance(ended.code, int) else 0))
    except OSError as error:  # stdout is full while `--help` or a version is written
        print_error(f"error: stdout: {error.strerror}")
        sys.exit(close_stdout(INPUT))
