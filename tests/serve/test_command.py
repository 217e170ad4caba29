"""How `mbn-deploy serve` starts, and what it says when it cannot."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from served_model import model, png  # noqa: F401 - a fixture
from serving import command, refused, serving

from mbn_deploy.serve.server import listen


def test_a_port_that_is_taken(model):  # noqa: F811
    with serving(model[0], *model[1]) as server:
        code, said = refused(model[0], *model[1], "--port", server.port)
    assert code == 3
    assert f"port {server.port}" in said


def test_a_host_that_there_is_not(model):  # noqa: F811
    code, said = refused(model[0], *model[1], "--host", "no such host")
    assert code == 2
    assert "no such host" in said


def test_a_model_that_there_is_not():
    code, said = refused("nothing.tflite")
    assert code == 3
    assert "nothing.tflite" in said


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra(package, model):  # noqa: F811
    code, said = refused(model[0], before=f"import sys; sys.modules[{package!r}] = None")
    assert code == 4
    assert "pip install 'mbn-deploy[serve]'" in said


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("option", "children"), [((), 0), (("--trust",), 0), (("--isolate",), 1)])
def test_where_the_interpreter_runs(model, option, children):  # noqa: F811
    """By default it is in the server, after a trial; an isolated one is a process of its own, which ends with it."""
    with serving(model[0], *model[1], *option) as server:
        assert server.classify(png()).status == 200
        pid = server.process.pid
        begun = [
            int(n) for task in Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()
        ]
        assert len(begun) == children
    assert not any(Path(f"/proc/{child}").exists() for child in begun)


def test_a_size_of_frames_needs_a_camera(model):  # noqa: F811
    code, said = refused(model[0], *model[1], "--frame-size", "640x480")
    assert code == 2
    assert "--frame-size" in said


def test_a_person_is_told_the_address(model):  # noqa: F811
    process = subprocess.Popen(
        command(model[0], *model[1], "--port", 0), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        line = process.stdout.readline().decode()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", line)
        process.terminate()
        assert process.wait(60) == 0
        assert "tiny (int8, litert, 1 thread)" in process.stderr.read().decode()


def test_answers_do_not_wait_for_acknowledgements():
    """asyncio sets TCP_NODELAY where the socket says its protocol; without it an answer takes 40 ms more."""
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
