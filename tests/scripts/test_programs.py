"""Every program beside the package starts, and every file and room that pages name is there.

A move or a new name in the package breaks none of them unnoticed. mypy reads the programs, too (`files` in
pyproject.toml): it sees names and arguments that are wrong deeper inside.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "robustness", "scripts")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text("utf-8")
]
NOT_INSTALLED = {"cosmic_ray", "tf_keras"}  # dependencies of one program each, which are no part of the tests'


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_says_what_it_is_for(program, tmp_path):
    command = [sys.executable, ROOT / program, "--help"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    missing = re.search(r"No module named '([a-z_]+)", ran.stderr)
    if missing and missing[1] in NOT_INSTALLED:
        pytest.skip(f"needs {missing[1]}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"usage: {Path(program).name}")


RECORDS = {"mutation-testing.md", "mutation_survivors.toml"}  # of a run: with modules as they were then


def named_files():
    """(page or program, file of this repository that it names, from its top or from the package's)."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    programs = [path for folder in ("benchmarks", "robustness", "scripts") for path in (ROOT / folder).iterdir()]
    for path in (path for path in [*pages, *programs] if path.is_file() and path.name not in RECORDS):
        for name in re.findall(r"(?<![\w/.$])[a-z_]+(?:/[\w-]+)+\.(?:py|sh|toml)\b", path.read_text("utf-8")):
            yield path.relative_to(ROOT).as_posix(), name


def test_files_that_pages_and_programs_name_are_there():
    names = set(named_files())
    assert len(names) > 100
    lost = [pair for pair in names if not any((folder / pair[1]).exists() for folder in (ROOT, ROOT / "mbn_deploy"))]
    assert sorted(lost) == []


def test_the_drawing_of_the_house_has_every_room():
    drawing = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("    floor  rooms\n")[1].split("\n\n")[0]
    rooms = {path.name for path in (ROOT / "mbn_deploy").iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in (ROOT / "mbn_deploy").glob("[a-z]*.py")}
    assert set(re.findall(r"\b[a-z_]+(?=/)", drawing)) >= rooms
    assert set(re.findall(r"\b[a-z]+\b", drawing)) >= modules
