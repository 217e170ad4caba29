"""Model files that are well formed and mean nonsense: the same for a seed, answered or refused whatever they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process for each file")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "robustness"))
import fuzz_semantic as fuzz  # noqa: E402

MADE = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import fuzz_semantic
make = fuzz_semantic.maker(sys.argv[2])
print([hashlib.sha256(make(3, number)[2]).hexdigest() for number in range(30)])
"""


@pytest.mark.parametrize("file_format", fuzz.FORMATS)
def test_nonsense_ends_no_process(file_format):
    command = [sys.executable, ROOT / "robustness/fuzz_semantic.py", file_format, "--count", "60", "--columns", "ours"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    outcomes = json.loads(ran.stdout)["columns"]["ours"]["outcomes"]
    assert outcomes["answer"] + outcomes["error"] == 60
    assert min(outcomes["answer"], outcomes["error"]) > 5


def test_the_same_seed_gives_the_same_files():
    def made(seed_of_hashes):
        command = [sys.executable, "-c", MADE, str(ROOT / "robustness"), "tflite"]
        return subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed_of_hashes}, capture_output=True, text=True, check=True
        ).stdout

    assert made("1") == made("2")


def test_the_page_has_the_counts():
    """After a run: robustness/fuzz_semantic.py with --write."""
    page = fuzz.PAGE.read_text("utf-8")
    assert fuzz.with_table(page, fuzz.table(fuzz.all_results())) == page


def test_ten_thousand_files_a_format_were_counted():
    results = fuzz.all_results()
    assert set(results) == set(fuzz.FORMATS)
    assert all(result["count"] >= 10_000 for result in results.values())
