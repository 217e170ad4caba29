"""The figures of docs/peers.md are those that its program makes of what was measured, and it says who is ahead."""

import copy
import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "peers.json", ROOT / "docs" / "peers.md"
OURS = "ours-int8-fast tflite"


@pytest.fixture
def programs(monkeypatch):
    """The parts that need no framework."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield {name: importlib.import_module(name) for name in ("peers_routes", "peers_ahead", "peers_table")}
    for name in ("peers_routes", "peers_ahead", "peers_table"):
        sys.modules.pop(name, None)


@pytest.fixture
def results():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def sentences(programs, models):
    return "\n".join(programs["peers_ahead"].ahead(models, tiles=False))


def test_the_pages_tables_are_not_stale(programs, results):
    page = PAGE.read_text(encoding="utf-8")
    assert programs["peers_table"].with_tables(page, results) == page


def test_every_route_of_every_model_has_a_figure_or_an_error(programs, results):
    assert len(results["models"]) == 5
    for found in results["models"].values():
        for route in programs["peers_routes"].ROUTES:
            figures = found["routes"][route.name]
            assert "error" in figures or figures["cpu_seconds"] >= 0
        for row in found["files"].values():
            assert all("error" in figures or "top1" in figures for figures in row["engines"].values())
            assert {"native", "openvino"} <= set(row["engines"])


def test_a_peer_that_is_ahead_is_named_with_how_much(programs, results):
    models = copy.deepcopy(results["models"])
    name, found = next(iter(models.items()))
    ours, theirs = found["files"][OURS], found["files"]["tf-int8 tflite"]
    figures = theirs["engines"]["native"]
    theirs["bytes"] = ours["bytes"] // 2
    figures["difference"]["value"] = 0.0
    figures["over_ours"]["top1"] = {"value": 0.021, "low": 0.004, "high": 0.03}
    for row, ms in ((ours, 2.0), (theirs, 1.5)):
        row["engines"]["native"]["latency"] = {"without AMX": {"1": {"ms": ms, "low": ms - 0.1, "high": ms + 0.1}}}
    told = sentences(programs, {name: found})
    assert "`TFLiteConverter` full integer by 2.1 points (95 %: +0.4 to +3.0)" in told
    assert "`TFLiteConverter` full integer by 25 % (1.50 ms beside 2.00 ms)" in told
    assert "`TFLiteConverter` full integer by 50.0 %" in told


def test_a_peer_that_loses_much_is_ahead_in_nothing_else(programs, results):
    models = copy.deepcopy(results["models"])
    name, found = next(iter(models.items()))
    theirs = found["files"]["tf-int8 tflite"]
    theirs["bytes"] = 1000
    theirs["engines"]["native"]["difference"]["value"] = -0.2
    told = sentences(programs, {name: found})
    assert "1 kB" not in told
    assert "`TFLiteConverter` full integer (20.0 points)" in told


def test_a_file_that_does_not_run_keeps_its_error(programs, results):
    models = copy.deepcopy(results["models"])
    name, found = next(iter(models.items()))
    found["files"]["tf-int8 tflite"]["engines"] = {"native": {"error": "the process ended with signal 11"}}
    made = programs["peers_table"].made(results | {"models": {name: found}})
    assert "does not run: `the process ended with signal 11`" in made


@pytest.mark.parametrize(("instructions", "columns"), [(["avx2", "amx_int8"], 9), (["avx2"], 8)])
def test_only_a_machine_with_amx_has_a_column_for_it(programs, results, instructions, columns):
    machine = results["machine"] | {"instructions": instructions}
    made = programs["peers_table"].made(results | {"machine": machine})
    tables = [line for line in made.splitlines() if line.startswith("| made by")]
    assert {line.count("|") - 1 for line in tables} == {columns}
    assert ("of a server with AMX" in made) is (columns == 9)
