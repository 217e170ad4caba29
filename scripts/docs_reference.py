"""Write docs/reference/commands.md from the command line itself; with --check, tell whether it is up to date.

Names, help, defaults, headings and examples come from the commands' registrations and signatures, so that the page
does not depend on how a version of typer prints its help.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, CommandInfo

from mbn_deploy.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
HEAD = """# Commands

Generated from the program by `scripts/docs_reference.py`; `mbn-deploy COMMAND --help` shows the same. Every command
takes `--json`: data to stdout, messages and progress to stderr. [Exit codes](exit-codes.md) are the same everywhere.
"""
TYPES = {int: "INT", float: "NUMBER", Path: "PATH", str: "TEXT"}
NAMES = re.compile(r"(?<![\w`-])(--[a-z][a-z0-9-]+)")
DEFAULT = re.compile(r"\[default: (.*)\]$")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command: its type without None, what typer was told about it, and its default."""

    name: str
    kind: Any
    info: Any
    default: Any

    @property
    def positional(self) -> bool:
        """Return whether it is an argument, not an option."""
        return isinstance(self.info, ArgumentInfo)

    @property
    def option(self) -> str:
        """Return its long name, or its name as an argument."""
        if self.positional:
            return str(self.info.metavar)
        return next(name.partition("/")[0] for name in self.names() if name.startswith("--"))

    def names(self) -> list[str]:
        """Return all names of the option, such as `-o` and `--output`."""
        declared = [self.info.default, *(self.info.param_decls or ())]
        names = [text for text in declared if isinstance(text, str) and text.startswith("-")]
        return names or [f"--{self.name.replace('_', '-')}"]

    def usage(self) -> str:
        """Return an argument as the command's first line shows it."""
        name = f"{self.info.metavar}..." if typing.get_origin(self.kind) is list else self.info.metavar
        return str(name) if self.default is inspect.Parameter.empty else f"[{name}]"

    def title(self) -> str:
        """Return the names of an option with its type, or an argument's name."""
        if self.positional:
            return str(self.info.metavar)
        names = ", ".join(self.names())
        if self.kind is bool:
            return names
        inner = typing.get_args(self.kind)[0] if typing.get_origin(self.kind) is list else self.kind
        return f"{names} {self.info.metavar or TYPES.get(inner, 'TEXT')}"

    def limits(self) -> str:
        """Return the default, range and environment variable as sentences."""
        sentences = []
        if self.default is inspect.Parameter.empty:
            sentences.append(" Required.")
        elif self.kind is not bool and self.default not in (None, ""):
            sentences.append(f" Default: `{self.default}`.")
        if self.info.min is not None and self.info.max is not None:
            sentences.append(f" From {self.info.min:g} to {self.info.max:g}.")
        if self.info.envvar:
            sentences.append(f" Also from the variable `{self.info.envvar}`.")
        return "".join(sentences)


def page() -> str:
    """Return the whole page, in Markdown."""
    return HEAD + "".join(section(name, command) for name, command in commands(app).items())


def commands(program: typer.Typer, prefix: str = "") -> dict[str, CommandInfo]:
    """Return every command by its full name (`export`, `bundle pi`), in the order in which --help lists them."""
    every = {}
    for command in program.registered_commands:
        if command.callback is not None:
            every[prefix + (command.name or command.callback.__name__)] = command
    for group in program.registered_groups:
        if group.typer_instance is not None:
            every |= commands(group.typer_instance, f"{prefix}{group.name} ")
    return every


def section(name: str, command: CommandInfo) -> str:
    """Return the part of the page about one command."""
    every = list(parameters(command))
    arguments = "".join(f" {one.usage()}" for one in every if one.positional)
    parts = [f"\n## {name}\n", f"```text\nmbn-deploy {name} [OPTIONS]{arguments}\n```\n"]
    text = inspect.getdoc(command.callback) or ""
    parts += [_prose(" ".join(paragraph.split())) + "\n" for paragraph in text.split("\n\n")]
    headings: dict[str | None, list[Parameter]] = {None: []}  # arguments and options without a heading come first
    for one in every:
        headings.setdefault(one.info.rich_help_panel, []).append(one)
    for heading, those in headings.items():
        parts += [f"**{heading}**\n"] if heading else []
        parts += map(_entry, those)
    if command.epilog:
        parts += ["**Examples**\n", "```text", *(line.strip() for line in command.epilog.splitlines()[1:]), "```\n"]
    return "\n".join(parts).rstrip() + "\n"


def parameters(command: CommandInfo) -> Iterator[Parameter]:
    """Yield the parameters of a command in the order of its signature."""
    function: Any = command.callback
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind, info = typing.get_args(parameter.annotation)[:2]
        options = [t for t in typing.get_args(kind) if t is not type(None)]
        is_list = typing.get_origin(kind) is list
        yield Parameter(parameter.name, kind if not options or is_list else options[0], info, parameter.default)


def _entry(parameter: Parameter) -> str:
    text = DEFAULT.sub(r"Default: \1.", " ".join((parameter.info.help or "").split()))
    return f"`{parameter.title()}`\n: {_prose(text)}{parameter.limits()}\n"


def _prose(text: str) -> str:
    """Return help as Markdown: nothing in it is markup but code, and options are code."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        parts[at] = NAMES.sub(r"`\1`", re.sub(r"([<*\[_])", r"\\\1", parts[at]))
    return "`".join(parts)


def main() -> int:
    """Write or check the page; return 1 if the check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is stale")
    new = page()
    if not parser.parse_args().check:
        PAGE.write_text(new, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == new:
        return 0
    sys.stderr.write("docs/reference/commands.md is stale; write it with: .venv/bin/python scripts/docs_reference.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
