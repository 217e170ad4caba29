"""The whole way on an emulated board: archive, `install.sh`, `verify`, `run`, the example. Without a network."""

import os
import shlex
import subprocess
import tarfile
from pathlib import Path

import arm
import pytest

from mbn_deploy.packages.pi.board import Board
from mbn_deploy.packages.pi.package import write_pi_package

pytestmark = [pytest.mark.arm, pytest.mark.slow, pytest.mark.skipif(not arm.READY, reason=arm.REASON)]

MEGABYTE = 1_000_000
CASES = {
    "aarch64-litert": (arm.AARCH64[1], Board.of("aarch64"), 120),
    "aarch64-onnx": (arm.AARCH64[2], Board.of("aarch64", backend="onnx"), 120),
    "armv7l-tflite": (arm.ARMV7L, Board.of("armv7l"), 30),
}
# A script stands where a board has an ARM program, whose ELF header pip reads to see whether this is armhf.
PIP = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
from pip._vendor.packaging import _manylinux
_manylinux._have_compatible_abi = lambda *_: True
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def board_python(folder, cpu):
    """A program that is Python on the emulated board, under whatever name it is called, as links in a venv are."""
    folder.mkdir()
    (folder / "as_armhf.py").write_text(PIP)
    home = f"PYTHONHOME={arm.ARM / cpu / 'usr'}"
    *words, program, _ = arm.emulator(cpu, folder, "-E", home)
    command = [*map(shlex.quote, words), "-0", '"$0"', shlex.quote(program), '"$@"']
    fix = f'case ${{1:-}} in *.whl/pip) set -- {shlex.quote(str(folder / "as_armhf.py"))} "$@" ;; esac'
    python = folder / "python3.11"
    python.write_text(f"#!/bin/sh\n{fix}\nexec {' '.join(command)}\n")
    python.chmod(0o755)
    return python


def call(*words, **environment):
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=600, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done


def left_over(there):
    """What an interrupted installation had brought."""
    return there / "venv" / "lib" / "half_of_a_module.py"


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def board(request, exported, tmp_path_factory):
    """(the package installed where another run was interrupted, its most megabytes, what installs it again)."""
    cpu, wanted, limit = request.param
    folder = tmp_path_factory.mktemp("a board")
    wheels = [arm.ARM / f"wheels-{name}" for name in ("any", wanted.architecture)]
    made = write_pi_package(exported[0], folder / "made", wanted, wheels=wheels)
    with tarfile.open(made.archive) as archive:
        archive.extractall(folder / "opt", filter="data")
    python = board_python(folder / "bin", cpu)
    there = folder / "opt" / "made"
    left_over(there).parent.mkdir(parents=True)
    left_over(there).touch()
    (there / "venv" / ".mbn-deploy-unfinished").touch()

    def install():
        return call(there / "install.sh", PYTHON=str(python))

    first = install()
    assert "making " in first.stderr
    assert "Done." in first.stderr
    return there, limit, install


def test_it_classifies_from_the_command_line_and_from_the_example(board, digits):
    there, _, _ = board
    picture = min((digits / "held-back" / "7").iterdir())
    said = call(there / "venv/bin/mbn-deploy", "run", there / "models", picture, "--top-k", 1)
    assert said.stdout.splitlines()[1].endswith("  7")
    lines = call(there / "venv/bin/python", there / "classify.py", f"folder:{picture.parent}").stdout.splitlines()
    assert len(lines) == len(list(picture.parent.iterdir()))
    assert sum("  '7'  " in line for line in lines) > 0.9 * len(lines)


def test_installing_again_does_nothing_and_verifies(board):
    there, _, install = board
    before = {p: p.stat().st_mtime_ns for p in (there / "venv").rglob("*.py")}
    assert "is up to date" in install().stderr
    assert before == {p: p.stat().st_mtime_ns for p in (there / "venv").rglob("*.py")}


def test_an_interrupted_installation_is_made_anew(board):
    there, _, _ = board
    assert not left_over(there).exists()
    assert not (there / "venv/.mbn-deploy-unfinished").exists()
    assert (there / "venv/bin/mbn-deploy").is_file()


def test_nothing_heavy_is_installed(board):
    there, limit, _ = board
    sizes = [p.lstat().st_size for p in (there / "venv").rglob("*") if p.is_file() and not p.is_symlink()]
    assert sum(sizes) < limit * MEGABYTE
    names = {p.name.lower() for p in there.glob("venv/lib/python*/site-packages/*")}
    assert not names & {"tensorflow", "keras", "onnx", "h5py", "matplotlib", "pydantic"}


def test_a_changed_model_is_found(board):
    there, _, _ = board
    model = min((there / "models").glob("*_int8.*"))
    data = model.read_bytes()
    try:
        model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        done = subprocess.run(
            [there / "install.sh"], capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHON": str(Path(there.parents[1] / "bin" / "python3.11"))},
        )  # fmt: skip
        assert done.returncode == 5
        assert model.name in done.stderr
    finally:
        model.write_bytes(data)
