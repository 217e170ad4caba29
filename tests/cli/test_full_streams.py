"""A full or closed stdout or stderr: answers come, or the exit code says that they did not."""

import subprocess
import sys
from pathlib import Path

import pytest
import runtime_models as models
from PIL import Image

PROGRAM = [sys.executable, "-c", "from mbn_deploy.cli.main import main; main()"]
pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def started(*arguments, redirection):
    line = f'"$@" {redirection}'
    command = ["bash", "-c", line, "bash", *PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_an_answer_comes_though_nobody_takes_messages(tmp_path, redirection):
    (tmp_path / "tiny.tflite").write_bytes(models.float_tflite())
    Image.fromarray(models.pictures(1)[0]).save(tmp_path / "picture.png")
    result = started(
        "run", tmp_path / "tiny.tflite", tmp_path / "none.png", tmp_path / "picture.png", redirection=redirection
    )
    assert "bee" in result.stdout
    assert result.returncode == 3  # of the picture that is not there


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"], ["--version"]])
def test_a_full_stdout_is_an_error(arguments):
    result = started(*arguments, redirection=">/dev/full")
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")


def test_a_closed_pipe_ends_quietly():
    result = started("list", "--json", redirection="| head -1")
    assert result.stdout.count("\n") == 1
    assert not result.stderr
