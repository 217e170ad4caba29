"""The tables of what opening costs are those that their program makes of what was measured."""

import importlib.util
import json
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "opening.py"
SPEC = importlib.util.spec_from_file_location("benchmark_of_opening", PROGRAM)
opening = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(opening)


def test_the_pages_tables_are_not_stale():
    page = opening.PAGE.read_text(encoding="utf-8")
    assert opening.with_tables(page, opening.tables(json.loads(opening.RESULTS.read_text("utf-8")))) == page


def test_opening_a_bundle_was_not_slower_than_before():
    result = json.loads(opening.RESULTS.read_text("utf-8"))
    for counts in result["arm"].values():  # instructions repeat, times do not
        for file in opening.FILES:
            assert counts[file]["bundle"] <= 1.01 * counts[file]["bundle, before"]
