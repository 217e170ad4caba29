"""The figures of scripts/coverage_report.py, on a program whose branches can be counted by hand."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "coverage_report.py"
CONFIG = "[tool.coverage.run]\nbranch = true\nsource = ['made']\n"
HALF = "def f(x):\n    if x:\n        return 1\n    return 2\nf(0)\n"  # five lines, one of two ways not taken
WHOLE = HALF + "f(1)\n"


def ran(folder, *words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def report(folder, part, *options):
    (folder / "pyproject.toml").write_text(CONFIG)
    (folder / "made" / "deep" / "deeper").mkdir(parents=True)
    for name, text in {"__init__": "", "deep/__init__": "", "deep/whole": WHOLE, "deep/deeper/part": part}.items():
        (folder / "made" / f"{name}.py").write_text(text)
    (folder / "run.py").write_text("import made.deep.whole, made.deep.deeper.part")
    done = ran(folder, "-m", "coverage", "run", "run.py")
    assert done.returncode == 0, done.stderr
    return ran(folder, SCRIPT, *options)


def rows(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_three_of_four_branches_are_too_few(tmp_path):
    done = report(tmp_path, HALF)
    assert done.returncode == 1
    assert "75.00 % of the branches were taken; 90 % are wanted" in done.stderr
    assert "made/deep/deeper/part.py 5 2 1 50.0 % 71.4 %" in rows(done.stdout)
    assert "made/deep 11 4 3 75.0 % 86.7 %" in rows(done.stdout)  # with what lies deeper
    assert "total 11 4 3 75.0 % 86.7 %" in rows(done.stdout)
    assert ran(tmp_path, SCRIPT, "--least", "75").returncode == 0


def test_all_branches_and_a_page(tmp_path):
    done = report(tmp_path, WHOLE, "--html", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    assert "total 12 4 4 100.0 % 100.0 %" in rows(done.stdout)
    assert "below" not in done.stdout
    assert (tmp_path / "page" / "index.html").is_file()
    assert [path.name.endswith("whole_py.html") for path in (tmp_path / "page").glob("z_*")].count(True) == 1


def test_nothing_measured_is_no_success(tmp_path):
    done = ran(tmp_path, SCRIPT)
    assert done.returncode == 1
    assert "scripts/coverage.sh" in done.stderr
    assert "Traceback" not in done.stderr
