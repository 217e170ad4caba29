"""Kills and faults at every change of files; `robustness/faults.py` tries more of them, and whole commands."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / "robustness"
QUICK = (
    "bundle",
    "bundle without exchange of folders",
    "thread counts in the cache",
    "thread counts in a manifest",
    "sweep (record and tables)",
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux only")


def test_the_pages_table_is_not_stale(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAMS))
    spec = importlib.util.spec_from_file_location("benchmark_of_faults", PROGRAMS / "faults.py")
    faults = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, faults)
    spec.loader.exec_module(faults)
    page, result = faults.PAGE.read_text("utf-8"), json.loads(faults.RESULTS.read_text("utf-8"))
    assert faults.with_table(page, faults.table(result)) == page
    assert all(counts["good"] for counts in result["stages"].values())
    kinds = ("killed_at_a_change", "killed_within", "killed_by_the_clock")
    assert sum(counts[kind] for counts in result["stages"].values() for kind in kinds) > 100


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


def test_as_many_kills_as_are_asked_for(exported):
    found = tried(exported[0], "bundle without exchange of folders", kills=30)["bundle without exchange of folders"]
    assert found["good"], found
    assert found["killed_at_a_change"] + found["killed_within"] + found["killed_by_the_clock"] >= 30
    assert found["killed_by_the_clock"] >= 3


@pytest.mark.slow
def test_a_killed_export_loses_nothing(exported):
    """The whole command, with TensorFlow: two kills and a lost permission."""
    found = tried(exported[0], "export (whole command)", most=1, clock=1)["export (whole command)"]
    assert found["good"], found
