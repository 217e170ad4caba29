"""Temporary folders of processes that were killed: the next run removes them, and none that is in use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mbn_deploy.bundle.write import write_bundle
from mbn_deploy.stale import in_use, remove_stale

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock there")

HOLDER = """
import sys, time
from pathlib import Path
from mbn_deploy.stale import in_use
with in_use(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def made(path):
    path.mkdir()
    (path / "file").write_bytes(b"x")
    return path


def test_only_what_nobody_holds_is_removed(tmp_path):
    held, free, other = made(tmp_path / "t-held"), made(tmp_path / "t-free"), made(tmp_path / "other")
    with in_use(held):
        remove_stale(tmp_path, "t-*")
        assert sorted(tmp_path.iterdir()) == sorted([held, other])
    assert not free.exists()
    remove_stale(tmp_path, "t-*")
    assert list(tmp_path.iterdir()) == [other]


def test_a_killed_process_holds_nothing(tmp_path):
    folder = made(tmp_path / "t-1")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    remove_stale(tmp_path, "t-*")
    assert folder.exists()
    holder.kill()
    holder.communicate()
    remove_stale(tmp_path, "t-*")
    assert not folder.exists()


def test_links_and_files_are_left_alone(tmp_path):
    target = made(tmp_path / "precious")
    (tmp_path / "t-link").symlink_to(target)
    (tmp_path / "t-file").write_bytes(b"x")
    remove_stale(tmp_path, "t-*")
    assert (target / "file").exists()
    assert (tmp_path / "t-file").exists()


def test_writing_a_bundle_removes_what_a_killed_run_left(tmp_path):
    name = "d[i]st"
    stale, foreign = made(tmp_path / f".{name}.0123abcd.tmp"), made(tmp_path / ".dist.0123abcd.tmp")
    write_bundle(tmp_path / name, {"manifest.json": b"{}"})
    assert not stale.exists()
    assert foreign.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux only")
def test_killed_exports_lose_nothing():
    command = [sys.executable, ROOT / "benchmarks/kill_export.py", "--kills", "4", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["lost"], found["left_behind"], found["last_run_succeeds"]) == (0, 0, [], True)
