"""The options of an options dataclass (see `pipeline.option_fields`) as options of a command."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from mbn_deploy.pipeline.option_fields import Option, options_of

_TYPES = (bool, int, float, Path)  # of values on the command line, if an option takes them; else text
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def with_options(
    options_class: type, *, sweep: bool = False, defaults: Mapping[str, Any] = _NOTHING
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a dataclass.

    The decorated function has a parameter `options`, a dict. The command has an option for each field in its place,
    and passes their values by name, unchecked: it is the command that knows what to check first.

    Args:
        options_class: the dataclass.
        sweep: whether only the options that a sweep takes are wanted.
        defaults: defaults that differ from those of the dataclass, by name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        declared = [each for each in options_of(options_class) if each.command_line and (each.swept or not sweep)]

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            command(options={each.name: given.pop(each.name) for each in declared}, **given)

        wrapper.__signature__ = _signature(command, declared, defaults)  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _signature(
    command: Callable[..., None], declared: Sequence[Option], defaults: Mapping[str, Any]
) -> inspect.Signature:
    """Return the command's signature, with a parameter for each option in place of `options`."""
    hints = typing.get_type_hints(command, include_extras=True)
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "options":
            parameters += [_parameter(each, defaults.get(each.name, each.default)) for each in declared]
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    return inspect.Signature(parameters)


def _parameter(declared: Option, default: Any) -> inspect.Parameter:
    kind = next((kind for kind in _TYPES if kind in declared.types), str)
    names = [declared.flag]
    if kind is bool and default:
        names = [f"{declared.flag}/--no-{declared.flag.removeprefix('--')}"]
    # Typer's own check of a path would exit with 2 (wrong use) for an unreadable file, which is an unusable input (3).
    info = typer.Option(
        *names,
        help=declared.command_help,
        metavar=declared.metavar or "|".join(declared.choices) or None,
        rich_help_panel=declared.group or None,
        readable=False,
    )
    return inspect.Parameter(
        declared.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=",".join(default) if isinstance(default, tuple) else default,
        annotation=Annotated[kind | None if default is None else kind, info],
    )
