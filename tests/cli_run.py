"""The command line in this process, and the network that its tests export."""

from importlib import resources

from typer.testing import CliRunner

from mbn_deploy.cli.main import app
from mbn_deploy.demo.networks import weights_name

WEIGHTS = str(resources.files("mbn_deploy.demo") / weights_name("mobilenet_v1"))
NETWORK = ["mobilenet_v1", "--alpha", "0.25", "--size", "32", "--classes", "10", "--weights", WEIGHTS]


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "80", "TERM": "dumb"})
