"""The command line in this process, the network that its tests export, and what a terminal shows."""

import os
from importlib import resources

from typer.testing import CliRunner

from mbn_deploy.cli.main import app
from mbn_deploy.demo.networks import weights_name

WEIGHTS = str(resources.files("mbn_deploy.demo") / weights_name("mobilenet_v1"))
NETWORK = ["mobilenet_v1", "--alpha", "0.25", "--size", "32", "--classes", "10", "--weights", WEIGHTS]


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "80", "TERM": "dumb"})


def rest_of(screen):
    """All that comes from a pseudo-terminal until its other end is closed; a few kB fill it, so somebody must read."""
    return b"".join(iter(lambda: _read(screen), b""))


def _read(screen):
    try:
        return os.read(screen, 1000)
    except OSError:  # what Linux says when the other end is closed
        return b""
