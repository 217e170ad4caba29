"""The command line: what it prints, and the exit code for each class of bad input."""

import json
import os
import subprocess
import sys
import tempfile

import pytest
from typer.testing import CliRunner

import mbn_deploy
from mbn_deploy.cli import exit_codes, progress_bar
from mbn_deploy.cli.main import app
from mbn_deploy.errors import MissingExtraError, VerificationError
from mbn_deploy.models.tables import NETWORKS


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_list_names_every_network():
    result = run("list")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in NETWORKS)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_list_json_has_the_papers_figures():
    rows = {row["model"]: row for row in json.loads(run("list", "--json").stdout)}
    assert set(rows) == set(NETWORKS)
    assert rows["mobilenet_v1"]["macs"] == 568_740_352
    assert rows["mobilenet_v2"]["parameters"] == 3_538_984


@pytest.mark.parametrize("name", NETWORKS)
def test_describe_fits_a_terminal_and_cuts_nothing(name):
    result = run("describe", name, "--alpha", "0.6", "--size", "97")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout
    assert "1/N+1/D_K²" in result.stdout
    assert "97 (ρ 0.43)" in result.stdout


def test_describe_json_agrees_with_the_formula():
    data = json.loads(run("describe", "mobilenet_v1", "--json").stdout)
    first = data["separable"][0]
    assert (first["kernel"], first["filters"]) == (3, 64)
    assert first["measured"] == pytest.approx(1 / 64 + 1 / 9)
    assert sum(layer["macs"] for layer in data["layers"]) == data["macs"]
    half = next(s for s in data["scaling"] if (s["alpha"], s["size"]) == (0.5, 224))
    assert half["squares"] == 0.25
    assert half["measured"] == pytest.approx(149 / 569, abs=0.002)  # arXiv 1704.04861, table 6


def test_describe_all_layers_shows_more():
    few, all_of_them = run("describe", "mobilenet_v2"), run("describe", "mobilenet_v2", "--all-layers")
    assert "block_1_expand_BN" not in few.stdout
    assert "block_1_expand_BN" in all_of_them.stdout


def test_version():
    assert run("--version").stdout == f"mbn-deploy {mbn_deploy.__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["describe", "mobilnet_v2"], "did you mean mobilenet_v2"),
        (["describe", "mobilenet_v2", "--alpha", "0"], "alpha"),
        (["describe", "mobilenet_v2", "--alpha", "nan"], "alpha"),
        (["describe", "mobilenet_v2", "--alpha", "inf"], "alpha"),
        (["describe", "mobilenet_v2", "--size", "31"], "31"),
        (["describe", "mobilenet_v2", "--classes", "many"], "--classes"),
        (["describe", "mobilenet_v2", "--szie", "31"], "--szie"),
        (["descrbe", "mobilenet_v2"], "describe"),
    ],
)
def test_wrong_use_is_2(args, said):
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout


def test_help_is_quick_and_loads_no_framework():
    code = (
        "import sys; from mbn_deploy.cli.main import app\n"
        "try: app(['export', '--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'ai_edge_litert', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


class TestGuard:
    """Every command runs inside it."""

    @staticmethod
    def code(error, capsys):
        def command():
            raise error

        with pytest.raises(exit_codes.typer.Exit) as found:
            exit_codes.guarded(command)()
        return found.value.exit_code, capsys.readouterr().err

    def test_own_errors_keep_their_codes(self, capsys):
        assert self.code(VerificationError("no"), capsys) == (5, "error: no\n")
        code, said = self.code(MissingExtraError("keras", "export", "to export"), capsys)
        assert code == 4
        assert "pip install 'mbn-deploy[export]'" in said

    def test_ctrl_c(self, capsys):
        assert self.code(KeyboardInterrupt(), capsys) == (130, "interrupted\n")

    def test_full_disk_is_an_input_and_no_bug(self, capsys):
        code, said = self.code(OSError(28, "No space left on device", "there"), capsys)
        assert (code, said) == (3, "error: there: No space left on device\n")

    def test_a_bug_shows_where(self, capsys):
        code, said = self.code(ZeroDivisionError("x"), capsys)
        assert code == 1
        assert "Traceback" in said
        assert "this is a bug" in said

    def test_terminal_escapes_in_messages_are_shown_not_obeyed(self, capsys):
        _, said = self.code(VerificationError("file \x1b]0;owned\x07 \u202e[red]x[/red]"), capsys)
        assert said == "error: file \\x1b]0;owned\\x07 \\u202e[red]x[/red]\n"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no files without a disk")
def test_what_is_held_back_needs_no_disk(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with progress_bar.hide_startup_messages():
        os.write(2, b"kept\n")
    monkeypatch.undo()
    monkeypatch.delattr(os, "memfd_create")  # other systems
    with progress_bar.hide_startup_messages():
        os.write(2, b"on the disk\n")
    assert capfd.readouterr().err == "kept\non the disk\n"


def test_only_startup_messages_are_left_out(capfd):
    with progress_bar.hide_startup_messages():
        os.write(2, b"before\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: after, no newline")
    assert capfd.readouterr().err == "before\nERROR: after, no newline"

    @progress_bar.hide_startup_messages()
    def fails():
        os.write(2, b"what led to it\n")
        raise VerificationError("no")

    with pytest.raises(VerificationError):
        fails()
    assert capfd.readouterr().err == "what led to it\n"


@pytest.mark.skipif(os.name == "nt", reason="no such streams")
@pytest.mark.parametrize(
    ("words", "closed", "code"), [("list", (1,), 0), ("list", (2,), 0), ("list", (0, 1, 2), 0), ("describe x", (2,), 2)]
)
def test_streams_that_are_closed_are_no_mistake_of_this_program(words, closed, code):
    """`2>&-`, and services whose manager gives them none."""
    command = [sys.executable, "-c", "from mbn_deploy.cli.main import main; main()", *words.split()]
    shut = f"import os; [os.close(n) for n in {closed}]; os.execv({sys.executable!r}, {command!r})"
    done = subprocess.run([sys.executable, "-c", shut], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (code, b"")
    assert (b"mobilenet_v2" in done.stdout) == (words == "list" and 1 not in closed)


@pytest.mark.skipif(os.name == "nt", reason="no SIGPIPE")
def test_a_closed_pipe_ends_quietly():
    code = "from mbn_deploy.cli.main import main; main()"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, "describe", "mobilenet_v3_large", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer.stdout.close()
    said = writer.stderr.read()
    writer.stderr.close()
    assert (writer.wait(), said) == (141, b"")
