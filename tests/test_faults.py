"""Kills and faults at every change of files; `benchmarks/faults.py` tries more of them, and whole commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "benchmarks"
QUICK = (
    "bundle", "bundle without exchange of folders", "thread counts in the cache", "thread counts in a manifest",
    "sweep (record and tables)",
)  # fmt: skip
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux only")


def tried(bundle, *stages, **options):
    """What the program found; in memory, where flushing to a disk takes no time."""
    command = [sys.executable, PROGRAMS / "faults.py", "--json", "--bundle", bundle, "--stages", ",".join(stages)]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    memory = {"TMPDIR": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else {}  # noqa: S108
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | memory)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return json.loads(ran.stdout)["stages"]


def test_killed_or_refused_at_every_change_nothing_is_lost(exported):
    found = tried(exported[0], *QUICK, clock=5)
    assert list(found) == list(QUICK)
    for counts in found.values():
        assert counts["good"], counts
        assert counts["killed_at_a_change"] == counts["changes"] > 4
        assert counts["old_stands"] > 0
        assert counts["new_stands"] > 0
        assert {"disk full", "permission lost"} <= counts["errors"].keys()


def test_killed_or_refused_packages_lose_nothing(exported):
    found = tried(exported[0], "bundle ios", most=8, clock=2)["bundle ios"]
    assert found["good"], found
    assert found["killed_at_a_change"] == 8


@pytest.mark.slow
def test_a_killed_export_loses_nothing(exported):
    """The whole command, with TensorFlow: two kills and a lost permission."""
    found = tried(exported[0], "export (whole command)", most=1, clock=1)["export (whole command)"]
    assert found["good"], found
