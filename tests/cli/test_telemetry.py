"""onnxruntime's telemetry is off in every process that a command starts.

From 1.29 on, its import alone writes an identifier and a database of events into the cache folder
(`Microsoft/DeveloperTools/.onnxruntime`), unless ORT_DISABLE_TELEMETRY is set, or CI.
"""

import os
import subprocess
import sys

import pytest
from cli_run import NETWORK

from mbn_deploy.runtime.backends.modules import load_interpreter

MAIN = "from mbn_deploy.cli.main import main; main()"


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def python(home):
    """A function: run Python as a user does, in an empty home, and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_")) and name != "CI"}

    def run(code, *arguments, **environment):
        ran = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**kept, "HOME": str(home), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def traces(home):
    return [path for path in home.rglob("*") if "onnxruntime" in path.name or "Microsoft" in path.name]


@pytest.mark.slow
def test_no_command_leaves_a_trace(python, home, digits, tmp_path, picture):
    dist = tmp_path / "dist"
    calibration = ("--calibrate", digits / "calibration", "--calibration-count", 20)
    for arguments in (
        ("export", *NETWORK, "-o", dist, "--formats", "onnx", "--precisions", "float32,int8", *calibration),
        ("run", dist, picture, "--isolate"),
        ("verify", dist),
        ("benchmark", dist, "--precision", "int8", "--seconds", 0.01),
        ("doctor",),
    ):
        python(MAIN, *arguments)
        assert traces(home) == [], arguments


def test_what_is_looked_for_is_left_without_this_package(python, home):
    """Otherwise a later onnxruntime that writes elsewhere would go unseen."""
    version = tuple(map(int, load_interpreter("onnx").__version__.split(".")[:2]))
    if version < (1, 29):
        pytest.skip("this onnxruntime has no telemetry")
    python("import onnxruntime")
    assert traces(home)


@pytest.mark.parametrize(("told", "kept"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_a_users_own_choice_stays(python, told, kept):
    code = (
        "import os; from mbn_deploy.runtime.backends.modules import load_interpreter; load_interpreter('onnx'); "
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert python(code, **told) == f"{kept}\n"
