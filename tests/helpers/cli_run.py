"""Run the command line in this process; the model that its tests export; read a terminal's screen."""

import os
from importlib import resources

from typer.testing import CliRunner

from mbn_deploy.cli.main import app
from mbn_deploy.demo.networks import weights_name

WEIGHTS = str(resources.files("mbn_deploy.demo") / weights_name("mobilenet_v1"))
NETWORK = ["mobilenet_v1", "--alpha", "0.25", "--size", "32", "--classes", "10", "--weights", WEIGHTS]


def run(*args, columns=80):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": str(columns), "TERM": "dumb"})


def rest_of(screen):
    """Read a pseudo-terminal until its other end is closed. Somebody must read: a few kB fill it."""
    return b"".join(iter(lambda: _read(screen), b""))


def _read(screen):
    try:
        return os.read(screen, 1000)
    except OSError:  # what Linux says when the other end is closed
        return b""
