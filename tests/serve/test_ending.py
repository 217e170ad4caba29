"""The server ends within its grace time whatever it does, goes on without its output, and logs in bounds."""

import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from served_model import model, png  # noqa: F401 - a fixture
from serving import command, serving

from mbn_deploy.serve.log import bounded, logging_to_stderr

SHORT = "import mbn_deploy.serve.server as s; s.SHUTDOWN_SECONDS = 0.5; s.END_SECONDS = 1.5"
# A decoder that nothing can interrupt, beside one that asks for it.
STUCK = "import time, mbn_deploy.serve.engine as e; e.load_pixels = lambda *a, **k: time.sleep(300)"
SECONDS = 20  # on a busy machine


@contextmanager
def classifying(server, count=1):
    """Have images classified whose answers nobody waits for."""
    with ExitStack() as held:
        for _ in range(count):
            client = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(png())
            client.sendall(head + png())
        time.sleep(1)
        yield


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("count", [1, 8])
def test_an_image_that_takes_minutes_does_not_keep_the_server(model, number, code, count):  # noqa: F811
    with serving(model[0], *model[1], before=f"{SHORT}\n{STUCK}") as server:
        with classifying(server, count):
            began = time.monotonic()
            assert server.end(number) == code
        assert time.monotonic() - began < SECONDS


def test_a_second_signal_ends_it_at_once(model):  # noqa: F811
    slow = "import mbn_deploy.serve.server as s; s.SHUTDOWN_SECONDS = 200; s.END_SECONDS = 300"
    with serving(model[0], *model[1], before=f"{slow}\n{STUCK}") as server, classifying(server):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.end(signal.SIGTERM) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_isolated_interpreter_that_hangs_ends_with_the_server(model):  # noqa: F811
    with serving(model[0], *model[1], "--isolate", before=SHORT) as server:
        tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        for child in children:
            os.kill(child, signal.SIGSTOP)  # it answers nothing any more
        with classifying(server):
            began = time.monotonic()
            assert server.end() == 0
        assert time.monotonic() - began < SECONDS
    assert children
    deadline = time.monotonic() + SECONDS
    while any(Path(f"/proc/{child}/cmdline").exists() and _runs(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(process):
    """Whether a process is more than an entry that nobody has collected yet."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# ---- output that nobody reads


@contextmanager
def pipe_of(kind):
    """The writing end of a pipe that is full, or that nobody reads."""
    reading, writing = os.pipe()
    if kind == "closed":
        os.close(reading)
    else:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"x")
        os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(writing)
        with suppress(OSError):
            os.close(reading)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(port, method, path, body=None):
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body)
        return connection.getresponse().status


@pytest.mark.parametrize("kind", ["closed", "full"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_server_goes_on_without_its_output(model, kind, stream):  # noqa: F811
    """Also where it has much to say: every request here ends in an error of the program."""
    bug = (
        "import mbn_deploy.serve.engine as e\n"
        "def broken(*a, **k): raise AssertionError('x' * 5000)\n"
        "e.load_pixels = broken"
    )
    port = free_port()
    words = command(*(model[0], *model[1], "--port", port), before=bug)
    with pipe_of(kind) as pipe:
        outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: pipe}
        with subprocess.Popen(words, **outputs) as process:
            try:
                deadline = time.monotonic() + 120
                while True:
                    with suppress(OSError):
                        assert status(port, "GET", "/health") == 200
                        break
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
                for _ in range(40):
                    assert status(port, "POST", "/classify", png()) == 500
                assert status(port, "GET", "/health") == 200
                process.terminate()
                assert process.wait(60) == 0
            finally:
                process.kill()


# ---- the log


def test_a_traceback_is_logged_in_bounds(model):  # noqa: F811
    bug = (
        "import mbn_deploy.serve.engine as e\n"
        "def deep(n):\n"
        "    if n: deep(n - 1)\n"
        "    raise AssertionError('\\x1b[31m' + 'evil' * 100_000 + '\\n' * 50_000)\n"
        "e.load_pixels = lambda *a, **k: deep(200)"
    )
    with serving(model[0], *model[1], before=bug) as server:
        answer = server.classify(png())
        assert (answer.status, answer.code) == (500, "bug")
        assert server.get("/health").status == 200
        assert server.end() == 0
        logged = server.process.stderr.read()
    assert b"AssertionError" in logged or b"lines left out" in logged
    assert len(logged) < 40_000
    assert b"\x1b" not in logged


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "a\rb", "\u202egnp", "\x9b31m", "\ud800", "\u2028"])
def test_what_a_terminal_obeys_is_escaped(text):
    shown = bounded(text)
    assert shown.isprintable() or "\n" in shown
    assert text not in shown or text == "\u2028"


def test_long_messages_are_cut():
    assert len(bounded("x" * 10**6)) < 1000
    lines = bounded("\n".join(f"line {index}" for index in range(10_000)))
    assert len(lines) < 2000
    assert "line 0\n" in lines
    assert "line 9999" in lines


def test_errors_of_threads_and_warnings_are_logged(capfd):
    def fail():
        raise ValueError("in a thread \x1b")

    before = threading.excepthook
    with logging_to_stderr():
        thread = threading.Thread(target=fail, name="a thread")
        thread.start()
        thread.join()
        logging.getLogger("another").warning("a message")
    said = capfd.readouterr().err
    assert "ValueError: in a thread \\x1b" in said
    assert "a message" in said
    assert threading.excepthook is before


def test_a_log_without_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no number
    with logging_to_stderr():
        logging.getLogger("another").warning("lost")
