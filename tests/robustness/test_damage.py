"""`verify` sees damages that change answers, whatever sha256 the manifest has; `damage.py` tries more of them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / "robustness"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the program forks, and reads /proc")


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAMS))
    spec = importlib.util.spec_from_file_location("program_of_damages", PROGRAMS / "damage.py")
    damage = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, damage)
    spec.loader.exec_module(damage)
    return damage


def test_the_pages_table_is_not_stale(program):
    page, result = program.PAGE.read_text("utf-8"), json.loads(program.RESULTS.read_text("utf-8"))
    assert program.with_table(page, program.table(result)) == page
    assert program.good(result)
    assert result["all"]["kept"] > 50
    assert {"float32", "float16", "dynamic", "int8", "int16x8"} <= {file.split()[1] for file in result["files"]}


def test_verify_sees_damages_that_change_answers(demo_bundles, tmp_path):
    for bundle in demo_bundles[:2]:
        (tmp_path / bundle.name).symlink_to(bundle)
    command = [sys.executable, PROGRAMS / "damage.py", "--bundles", tmp_path, "--count", "1", "--most", "4", "--json"]
    ran = subprocess.run([*command, "--seed", "5"], capture_output=True, text=True, check=False)
    found = json.loads(ran.stdout)
    assert found["missed"] == []
    assert found["all"]["kept"] > 15
    assert all(set(codes) == {"0"} for codes in found["sound"].values()), found["sound"]
    assert ran.returncode == 0, ran.stderr
