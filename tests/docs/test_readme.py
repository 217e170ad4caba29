"""What the README tells people to type exists."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from cli_run import run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
INDENTED = re.sub(r"\\\n +", "", "\n".join(re.findall(r"^    (.*)$", TEXT, re.MULTILINE)))
COMMANDS = [line for line in INDENTED.splitlines() if line.startswith("mbn-deploy ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options(line):
    _, *words = shlex.split(line, comments=True)
    command = words[: 2 if words[0] == "bundle" else 1]
    said = run(*command, "--help")
    assert said.exit_code == 0
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[ ,]){option}[ ,\n]", said.stdout, re.MULTILINE), option


def test_every_option_in_the_text_belongs_to_a_command():
    commands = [(name,) for name in names_of()] + [("bundle", name) for name in names_of("bundle")]
    known = set(re.findall(r"--[a-z0-9-]+", "".join(run(*command, "--help").stdout for command in commands)))
    named = set(re.findall(r"`[^`\n]*?(--[a-z][a-z0-9-]+)", TEXT))
    assert len(named) > 10
    assert named <= known


def names_of(*group):
    """The commands that a help text lists."""
    listed = run(*group, "--help").stdout.split("Options:")[1]
    return re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", listed, re.MULTILINE)


def test_the_python_example_imports_what_there_is():
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    imports = [node for code in examples for node in ast.parse(code).body if isinstance(node, ast.ImportFrom)]
    assert len(imports) >= len(examples) == 2
    for node in imports:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)


def test_files_that_are_named_exist():
    named = set(re.findall(r"(?:scripts|benchmarks|mbn_deploy|docs)/[\w/.-]+\.(?:sh|py|md)|\w+\.md", TEXT))
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_test_command_is_what_ci_runs():
    assert "./scripts/test.sh" in INDENTED
    assert "./scripts/test.sh\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
