"""The entry point `mbn-deploy`."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from mbn_deploy.cli.benchmark import benchmark
from mbn_deploy.cli.bundle import bundle
from mbn_deploy.cli.check_apk import check_apk
from mbn_deploy.cli.demo import demo
from mbn_deploy.cli.describe import describe
from mbn_deploy.cli.doctor import doctor
from mbn_deploy.cli.evaluate import evaluate
from mbn_deploy.cli.export import export
from mbn_deploy.cli.inspect import inspect
from mbn_deploy.cli.list import list_models
from mbn_deploy.cli.run import run
from mbn_deploy.cli.screens import Command, Group
from mbn_deploy.cli.serve import serve
from mbn_deploy.cli.sweep import sweep
from mbn_deploy.cli.verify import verify
from mbn_deploy.version import __version__

app = typer.Typer(
    name="mbn-deploy",
    cls=Group,
    help="Keras MobileNets (V1, V2, V3) on phones and ARM boards: TFLite and ONNX, float and int8, verified.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`mbn-deploy COMMAND --help` has options and examples. Exit codes: 0 done; 1 a bug; 2 wrong use; "
    "3 an input that cannot be used; 4 a missing extra; 5 a verification said no; 130 interrupted.",
)
app.command("list", cls=Command)(list_models)
app.command("describe", cls=Command)(describe)
app.command("export", cls=Command)(export)
app.command("sweep", cls=Command)(sweep)
app.command("evaluate", cls=Command)(evaluate)
app.command("run", cls=Command)(run)
app.command("benchmark", cls=Command)(benchmark)
app.command("serve", cls=Command)(serve)
app.command("verify", cls=Command)(verify)
app.command("doctor", cls=Command)(doctor)
app.command("inspect", cls=Command)(inspect)
app.command("check-apk", cls=Command)(check_apk)
app.command("demo", cls=Command)(demo)
app.add_typer(bundle, name="bundle")


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
    """Streams that whoever started the program had closed (`2>&-`) lead nowhere: Python has None in their place."""
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def main() -> None:
    """Run the command line; never returns."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter gets its code instead
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings are no news to a user
    app()
