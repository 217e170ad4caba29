"""Printing: results to stdout, messages to stderr, and no text that could take over the terminal."""

from __future__ import annotations

import json
import sys

from rich import box
from rich.console import Console
from rich.table import Table

from mbn_deploy.text import visible


class PipeConsole(Console):
    """A rich console that raises `BrokenPipeError` on a closed pipe, where rich would end the program by itself."""

    def on_broken_pipe(self) -> None:
        """Leave the exit code to `exit_codes.guarded`."""
        raise BrokenPipeError


def stdout() -> Console:
    """Return the console for results. Labels and file names are not read as markup or emoji codes."""
    return PipeConsole(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """Return the console for messages and progress."""
    return PipeConsole(stderr=True, markup=False, emoji=False, highlight=False)


def table(*columns: str, left: int = 1) -> Table:
    """Return an empty table for 80 columns, ruled only below the head.

    The first `left` columns hold names and are left-aligned; the others hold figures. Names that are too long are
    folded, never cut: they are there to be copied.
    """
    empty = Table(box=box.SIMPLE_HEAD)
    empty.show_edge, empty.padding = False, (0, 1, 0, 0)
    for at, heading in enumerate(columns):
        empty.add_column(heading, justify="left" if at < left else "right", overflow="fold", no_wrap=at >= left)
    return empty


def plain(text: str) -> str:
    """Escape the characters of `text` that a terminal would hide or obey. Newlines stay."""
    return visible(text, keep="\n")


def print_note(text: str) -> None:
    """Print a message to stderr without wrapping it, so that paths and commands in it can be copied."""
    stderr().print(plain(text), soft_wrap=True)


def print_error(text: str) -> None:
    """Print an error to stderr, past rich: this works even when a console does not."""
    sys.stderr.write(plain(text) + "\n")


def print_json(value: object) -> None:
    """Print `value` to stdout as JSON in ASCII, which any terminal and any pipe takes."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def human_bytes(size: int) -> str:
    """Format a size as `3.4 MB` (1 MB is 1e6 bytes) or `812 kB`."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.0f} kB"


def millions(count: int) -> str:
    """Format a number of parameters or multiply-adds in millions, with three digits."""
    return f"{count / 1e6:.2f} M" if count < 100_000_000 else f"{count / 1e6:.1f} M"
