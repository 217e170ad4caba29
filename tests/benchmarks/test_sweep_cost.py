"""The figures of docs/imagenet-sweep.md are those that its program makes of what was measured."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "sweep_cost.py"
SPEC = importlib.util.spec_from_file_location("benchmark_of_sweep_cost", PROGRAM)
cost = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cost)


def test_the_pages_tables_are_not_stale():
    page = cost.PAGE.read_text(encoding="utf-8")
    assert cost.with_tables(page, cost.tables(json.loads(cost.RESULTS.read_text("utf-8")))) == page


def test_every_published_variant_is_counted_once():
    names = [name for _, name, *_ in cost.published()]
    assert len(names) == len(set(names)) == 16 + 30 + 2 + 2 + 1 + 1


def test_a_straight_line_is_found_again():
    points = [{"x": x, "y": 2.0 + 3.0 * x} for x in (1.0, 5.0, 9.0)]
    assert cost.line(points, "x", "y") == pytest.approx((2.0, 3.0, 0.0), abs=1e-9)
    points[1]["y"] *= 1.1
    constant, slope, worst = cost.line(points, "x", "y")
    off = [abs((constant + slope * p["x"]) / p["y"] - 1) for p in points]
    assert worst == pytest.approx(np.max(off))
