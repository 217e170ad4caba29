"""The layout of `--help`: options and commands under the headings that they name as their `rich_help_panel`.

Typer's own panels (`rich_markup_mode="rich"`) are not used: at 80 columns they cut long defaults ("float32,float16,
dynamic…"), break words in the middle and draw boxes into pipes. What stands here is plain text that is only wrapped.
"""

from __future__ import annotations

from typing import Any

import typer.core

Rows = list[tuple[str, str]]


class Command(typer.core.TyperCommand):
    """A command that lists its arguments, the options without a heading, and the options under each heading."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading, in the order in which the command's signature names them first."""
        sections: dict[str, Rows] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(row)
        _write_sections(formatter, sections)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (click calls it with both)
        """Write the examples as they are: a line that was wrapped or indented further could not be copied."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog + "\n")


class Group(typer.core.TyperGroup):
    """A group that lists its commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading, with the short help of each command."""
        sections: dict[str, Rows] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            sections.setdefault(command.rich_help_panel or "Commands", []).append((name, command.short_help))
        _write_sections(formatter, sections)


def examples(*lines: str) -> str:
    """Return the text after the options (`epilog`): command lines to copy."""
    return "\n".join(["Examples:", *(f"  mbn-deploy {line}" for line in lines)])


def _write_sections(formatter: Any, sections: dict[str, Rows]) -> None:
    for heading, rows in sections.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)
