"""What a device loads: the interpreter and what it needs, nothing of the workstation."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "imports.py"
SPEC = importlib.util.spec_from_file_location("benchmark_of_imports", PROGRAM)
imports = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(imports)
Step, forbidden, measured = imports.Step, imports.forbidden, imports.measured


def test_the_forbidden_modules_would_be_seen():
    assert {"rich", "typer"} <= set(forbidden(measured(Step("the command line", "import rich, typer"))))


def test_importing_the_runtime_and_opening_a_bundle_loads_nothing_of_the_workstation(exported):
    every = [step for step in imports.steps(exported[0]) if step.name != "import tensorflow"]
    assert {"import mbn_deploy.runtime", "litert: bundle opened", "onnx: bundle opened"} <= {s.name for s in every}
    for step in every:
        assert forbidden(measured(step)) == [], step.name


def test_importing_the_runtime_loads_not_even_numpy():
    assert not measured(Step("", "import mbn_deploy.runtime")).modules & {"numpy", "PIL", *imports.FORBIDDEN}


@pytest.mark.slow
def test_the_benchmark_prints_its_table(exported):
    command = [sys.executable, PROGRAM, exported[0], "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "litert: bundle opened" in done.stdout
