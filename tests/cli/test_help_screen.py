"""Help screens: no option is lost, headings and examples are there, and everything fits 80 columns."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from cli_run import run

from mbn_deploy.cli.main import app

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import docs_reference

COMMANDS = docs_reference.commands(app)
MAY_BE_LONG = re.compile(r"^ +(mbn-deploy |--)")  # examples, which are not wrapped; the choices of an option


@pytest.fixture(params=COMMANDS)
def screen(request):
    """A command's name, its registration and its help."""
    return request.param, COMMANDS[request.param], run(*request.param.split(), "--help").stdout


def test_no_option_is_lost_and_each_stands_under_its_heading(screen):
    _, command, text = screen
    shown = {}
    for part in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        heading, _, body = part.partition(":\n")
        options = re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", body, re.MULTILINE)
        shown |= dict.fromkeys(options, None if heading == "Options" else heading)
    every = [one for one in docs_reference.parameters(command) if not one.positional]
    assert shown == {one.option: one.info.rich_help_panel for one in every} | {"--help": None}


def test_examples_have_only_options_that_there_are(screen):
    name, command, text = screen
    lines = [line.strip() for line in text.partition("Examples:\n")[2].splitlines()]
    assert lines
    options = {one.option for one in docs_reference.parameters(command)} | {"-o"}
    for line in lines:
        words = shlex.split(line)
        assert words[: 1 + len(name.split())] == ["mbn-deploy", *name.split()]
        assert {word for word in words if word.startswith("-")} <= options


def test_help_fits_a_terminal(screen):
    long = [line for line in screen[2].splitlines() if len(line) > 80 and not MAY_BE_LONG.match(line)]
    assert long == []


def test_help_is_plain_text_and_cuts_no_default(screen):
    _, command, text = screen
    assert not re.search(r"[\x1b│╭]", text)
    defaults = [one.default for one in docs_reference.parameters(command)]
    assert all(default in text for default in defaults if isinstance(default, str) and "-" not in default)


def test_every_command_is_listed_once_in_a_line_that_fits():
    for listing, names in (
        (run("--help").stdout, {name.split()[0] for name in COMMANDS}),
        (run("bundle", "--help").stdout, {name.split()[1] for name in COMMANDS if name.startswith("bundle ")}),
    ):
        listed = re.findall(r"^  ([a-z][a-z-]+)  +\S", listing, re.MULTILINE)
        assert sorted(listed) == sorted(names)
        assert all(len(line) <= 80 for line in listing.splitlines())
