"""Mutation testing: the mutants that are made, processes that are forked, and the page of the documentation."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 and later")
sys.path.insert(0, str(Path(__file__).parents[2] / "robustness"))
import mutation_report as report  # noqa: E402

SOURCE = """
LIMIT: int | None = 3

def clipped(value: int | None = None) -> float:
    return min(value, LIMIT) if value != 0 else -1.0
"""
CONFIG = {
    "operators": ["NumberReplacer", "ReplaceBinaryOperator_BitOr_BitAnd", "ReplaceComparisonOperator_NotEq_Eq"],
    "swaps": [["min", "max"]],
}


def test_the_page_is_made_from_the_results():
    """After a run: robustness/mutation.py --table."""
    assert report.PAGE.read_text() == report.page()


def test_the_page_says_of_which_commit_its_names_and_lines_are():
    results = json.loads(report.RESULTS.read_text())
    assert f"commit `{results['commit']}` of {results['date']}" in report.page()


def test_modules_and_tests_of_the_next_run_exist():
    config = tomllib.loads((report.ROOT / "robustness" / "mutation.toml").read_text())
    paths = [
        path for group in config["group"] for key in ("modules", "tests", "more_tests") for path in group.get(key, [])
    ]
    assert len(paths) > 40
    assert [path for path in paths if not (report.ROOT / path).is_file()] == []


def test_every_survivor_has_a_reason_and_every_reason_a_survivor():
    modules = json.loads(report.RESULTS.read_text())["modules"]
    survivors = {(name, row["old"], row["new"]) for name, found in modules.items() for row in found["survivors"]}
    assert set(report.reasons()) == survivors


def test_mutants_are_those_of_code_that_runs():
    mutants = pytest.importorskip("mutation_mutants", reason="the dependency group `mutation`", exc_type=ImportError)
    items = mutants.mutants("m.py", SOURCE, CONFIG)
    changes = [mutants.change(SOURCE, item.mutations[0], CONFIG) for item in items]
    line = "return min(value, LIMIT) if value != 0 else -1.0"
    assert [new for old, new in changes if old == "LIMIT: int | None = 3"] == [
        "LIMIT: int | None = 4",
        "LIMIT: int | None = 2",
    ]
    assert [new for old, new in changes if old == line] == [
        line.replace("min", "max"),
        line.replace("!=", "=="),
        line.replace("0 else", "1 else"),
        line.replace("0 else", "-1 else"),
        line.replace("1.0", " 2.0"),
        line.replace("1.0", " 0.0"),
    ]
    assert mutants.run_at_import(SOURCE) == {1, 2, 3, 4, 6}
    assert mutants.sampled(items, 3, 0) == mutants.sampled(items, 3, 0) != mutants.sampled(items, 3, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forks_answer_die_or_are_ended():
    import mutation_process as process

    assert process.in_fork(lambda _: [1, None], 60).value == [1, None]
    assert process.in_fork(lambda _: os.kill(os.getpid(), signal.SIGTERM), 60).died == "signal 15"
    assert process.in_fork(lambda _: 1 / 0, 60).died == "exit code 1"
    assert process.in_fork(lambda _: time.sleep(600), 0.5).died == process.TOO_LONG
