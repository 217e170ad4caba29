"""Writes docs/reference/commands.md from the command line itself; with --check, says whether it is up to date.

Names, help and defaults come from the commands' signatures, so that the page does not depend on how a version of
typer prints its help.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo

from mbn_deploy.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
HEAD = """# Commands

Generated from the program by `scripts/docs_reference.py`; `mbn-deploy COMMAND --help` says the same. Every command
takes `--json`: data to stdout, words and progress to stderr. [Exit codes](exit-codes.md) are the same everywhere.
"""
TYPES = {int: "INT", float: "NUMBER", Path: "PATH", str: "TEXT"}
NAMES = re.compile(r"(?<![\w`-])(--[a-z][a-z0-9-]+)")


def page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "".join(_section(name, function) for name, function in commands(app))


def commands(program: typer.Typer, prefix: str = "") -> Iterator[tuple[str, Callable[..., None]]]:
    """(`export`, its function), (`bundle pi`, its function), ... in the order in which --help lists them."""
    for command in program.registered_commands:
        if command.callback is not None:
            yield prefix + (command.name or command.callback.__name__), command.callback
    for group in program.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def _section(name: str, function: Callable[..., None]) -> str:
    parameters = list(_parameters(function))
    arguments = "".join(f" {_shown(info, kind, default)}" for _, kind, info, default in parameters if _positional(info))
    words = "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n"))
    entries = "".join(_entry(*parameter) for parameter in parameters)
    return (
        f"\n## {name}\n\n```text\nmbn-deploy {name} [OPTIONS]{arguments}\n```\n\n{_prose(words)}\n\n{entries}".rstrip()
        + "\n"
    )


def _parameters(function: Callable[..., None]) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, type without None, what typer was told, default) of each parameter."""
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, info = typing.get_args(hints[parameter.name])[:2]
        options = [t for t in typing.get_args(kind) if t is not type(None)]
        is_list = typing.get_origin(kind) is list
        yield parameter.name, kind if not options or is_list else options[0], info, parameter.default


def _positional(info: Any) -> bool:
    return isinstance(info, ArgumentInfo)


def _shown(info: Any, kind: Any, default: Any) -> str:
    """An argument in the line of usage."""
    name = f"{info.metavar}..." if typing.get_origin(kind) is list else info.metavar
    return str(name) if default is inspect.Parameter.empty else f"[{name}]"


def _entry(name: str, kind: Any, info: Any, default: Any) -> str:
    shown = info.metavar if _positional(info) else _option(name, kind, info)
    help_text = " ".join((info.help or "").split())
    return f"`{shown}`\n: {_prose(help_text)}{_facts(kind, info, default)}\n\n"


def _option(name: str, kind: Any, info: Any) -> str:
    told = [info.default, *(info.param_decls or ())]
    said = [text for text in told if isinstance(text, str) and text.startswith("-")]
    names = ", ".join(said or [f"--{name.replace('_', '-')}"])
    if kind is bool:
        return names
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
    return f"{names} {info.metavar or TYPES.get(inner, 'TEXT')}"


def _facts(kind: Any, info: Any, default: Any) -> str:
    facts = []
    if default is inspect.Parameter.empty:
        facts.append(" Required.")
    elif kind is not bool and default not in (None, ""):
        facts.append(f" Default: `{default}`.")
    if info.min is not None and info.max is not None:
        facts.append(f" From {info.min:g} to {info.max:g}.")
    if info.envvar:
        facts.append(f" Also from the variable `{info.envvar}`.")
    return "".join(facts)


def _prose(text: str) -> str:
    """Help as Markdown: nothing in it is markup but code, and options are code."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        parts[at] = NAMES.sub(r"`\1`", re.sub(r"([<*\[_])", r"\\\1", parts[at]))
    return "`".join(parts)


def main() -> int:
    """0 if done, or up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is stale")
    made = page()
    if not parser.parse_args().check:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == made:
        return 0
    sys.stderr.write("docs/reference/commands.md is stale; write it with: .venv/bin/python scripts/docs_reference.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
