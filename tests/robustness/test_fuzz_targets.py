"""The coverage-guided targets of tests/fuzz for a moment each; `scripts/fuzz.sh` runs them for longer."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "fuzz"
TARGETS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "harness")
SECONDS = 3  # together some twenty


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: CPython 3.11 or later on x86-64 Linux")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_our_own_errors(target, tmp_path):
    command = [sys.executable, FOLDER / f"{target}.py", str(SECONDS)]
    ran = subprocess.run(command, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}, capture_output=True, check=False)
    said = "\n".join(text.decode(errors="replace")[-3000:] for text in (ran.stderr, ran.stdout))  # traces come last
    assert ran.returncode == 0, said
    assert b"number_of_executed_units" in ran.stderr
