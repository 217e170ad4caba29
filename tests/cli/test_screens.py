"""Help screens: sections name parameters that there are, examples and lists of commands are true."""

import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest
from cli_run import run

from mbn_deploy.cli import screens

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import docs_reference

FUNCTIONS = dict(docs_reference.commands(docs_reference.app))


@pytest.mark.parametrize("name", screens.SECTIONS)
def test_sections_hold_parameters_of_the_command_each_once(name):
    named = " ".join(screens.SECTIONS[name].values()).split()
    assert len(named) == len(set(named))
    assert set(named) <= set(inspect.signature(FUNCTIONS[name]).parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_option_is_lost_and_examples_have_only_those(name):
    said = run(*name.split(), "--help").stdout
    options = re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", said.split("Examples:")[0], re.MULTILINE)
    wanted = re.findall(r"^`(?:-\w, )?(--[a-z0-9-]+)", docs_reference._section(name, FUNCTIONS[name]), re.MULTILINE)
    assert sorted(options) == sorted([*wanted, "--help"])
    for line in screens.EXAMPLES.get(name, ()):
        words = shlex.split(line)
        assert words[: len(name.split())] == name.split()
        assert {word for word in words if word.startswith("--")} <= set(options)
        assert f"mbn-deploy {line}\n" in said


def test_every_command_is_listed_once_in_a_line_that_fits():
    listed = [name for commands in screens.COMMANDS.values() for name in commands]
    assert sorted(listed) == sorted({name.split()[0] for name in FUNCTIONS})
    assert [f"bundle {name}" for name in screens.PACKAGES] == [n for n in FUNCTIONS if n.startswith("bundle ")]
    for text in (run("--help").stdout, run("bundle", "--help").stdout):
        assert "..." not in text.replace("[ARGS]...", "")
        assert all(len(line) <= 80 for line in text.splitlines())
