"""Declare options once, as fields of a dataclass.

`option` declares a field with its help and what else is known of it. The Python signature and the docstring
(`takes_options`), the command line (`cli.export_options`) and the records are derived from the fields.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from mbn_deploy.arguments import is_number, is_whole
from mbn_deploy.errors import UsageError

T = TypeVar("T")
P = ParamSpec("P")
Options = TypeVar("Options")
Input_contra = TypeVar("Input_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

OPTIONS_LINE = "    options: {options}"  # the line of a docstring that the options' help replaces
_NAME = re.compile(r"`([a-z0-9_]+)`")
WIDTH = 100


@dataclass(frozen=True)
class Option:
    """An option of an options dataclass.

    Attributes:
        name: its name in Python.
        type: all types that its value may have.
        default: its value if it is not given.
        help: a sentence about the value. Other options stand in it as `name`.
        python: what else the value may be in Python, as a further sentence; "" for nothing.
        group: the heading under which `--help` lists it; "" for no heading.
        metavar: how the command line writes the value; None for its choices or its type.
        command_line: whether the command line has it.
        swept: whether a sweep takes it; if not, the sweep decides by itself.
        recorded: whether the manifest records its value where it is not the default.
    """

    name: str
    type: Any
    default: Any
    help: str
    python: str
    group: str
    metavar: str | None
    command_line: bool
    swept: bool
    recorded: bool

    @property
    def flag(self) -> str:
        """The option's name on the command line."""
        return flag(self.name)

    @property
    def command_help(self) -> str:
        """The help with other options as they are written on the command line."""
        return _NAME.sub(lambda match: flag(match[1]), self.help)

    @property
    def types(self) -> tuple[Any, ...]:
        """The members of its type, without None."""
        if typing.get_origin(self.type) not in (typing.Union, types.UnionType):
            return (self.type,)
        return tuple(member for member in typing.get_args(self.type) if member is not type(None))

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, if its type lists them (`Literal`); else empty."""
        literals = [member for member in self.types if typing.get_origin(member) is Literal]
        return tuple(value for literal in literals for value in typing.get_args(literal))

    def check_type(self, value: object) -> None:
        """Raise `UsageError` for a value that has none of the option's types; its choices are not looked at."""
        if value is None and type(None) in typing.get_args(self.type):
            return
        if not any(_has_type(value, each) for each in self.types):
            wanted = " or ".join(dict.fromkeys(_type_name(each) for each in self.types))
            raise UsageError(f"{self.name} takes {wanted}, not {value!r:.80}")

    @property
    def takes_path(self) -> bool:
        """Whether its value may be a path, which says nothing on another machine."""
        return Path in self.types


def _has_type(value: object, wanted: Any) -> bool:
    """Return whether a value has a type of an option, with its elements, as far as options use types."""
    origin, members = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is int:
        return is_whole(value)
    if wanted is float:
        return is_number(value)
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        return isinstance(value, (tuple, list)) and len(value) == len(members) and all(map(_has_type, value, members))
    if origin is Sequence:
        return (
            isinstance(value, Sequence) and not isinstance(value, bytes) and all(_has_type(v, *members) for v in value)
        )
    return isinstance(value, origin or wanted)


def _type_name(wanted: Any) -> str:
    name: str = getattr(wanted, "__name__", str(wanted)) if typing.get_origin(wanted) is None else str(wanted)
    return "str" if typing.get_origin(wanted) is Literal else name.replace("collections.abc.", "")


def flag(name: str) -> str:
    """Return the name of an option on the command line."""
    return f"--{name.replace('_', '-')}"


def option(
    default: T,
    *,
    help: str,  # noqa: A002 - the word of argparse and typer
    python: str = "",
    group: str = "",
    metavar: str | None = None,
    command_line: bool = True,
    swept: bool = True,
    recorded: bool = True,
) -> T:
    """Declare a field of an options dataclass. The arguments are the attributes of `Option`."""
    metadata = {
        "help": help,
        "python": python,
        "group": group,
        "metavar": metavar,
        "command_line": command_line,
        "swept": swept,
        "recorded": recorded,
    }
    return dataclasses.field(default=default, metadata=metadata)


def options_of(options_class: Any) -> tuple[Option, ...]:
    """List the options that a dataclass and its base classes declare, in order."""
    hints = typing.get_type_hints(options_class)
    return tuple(
        Option(name=field.name, type=hints[field.name], default=field.default, **field.metadata)
        for field in dataclasses.fields(options_class)
    )


def keywords(options: Any) -> dict[str, Any]:
    """Return the values of an options dataclass as keyword arguments."""
    return {each.name: getattr(options, each.name) for each in options_of(type(options))}


class TakesOptions(Protocol[P, Input_contra, Result_co]):
    """A function of an input, an output folder and options, which are keyword arguments."""

    def __call__(self, model: Input_contra, output: str | Path, *args: P.args, **kwargs: P.kwargs) -> Result_co:
        """Call the function."""


def takes_options(
    options_class: Callable[P, Options],
) -> Callable[[Callable[[Input_contra, str | Path, Options], Result_co]], TakesOptions[P, Input_contra, Result_co]]:
    """Give a function the options of a dataclass as keyword arguments.

    The decorated function `f(model, output, options)` becomes `f(model, output, *, ...)` with a keyword argument for
    each option. Its signature shows their types and defaults, and their help replaces the line "options: {options}" in
    its docstring.
    """

    def decorate(
        function: Callable[[Input_contra, str | Path, Options], Result_co],
    ) -> TakesOptions[P, Input_contra, Result_co]:
        @functools.wraps(function)
        def wrapper(model: Input_contra, output: str | Path, *args: P.args, **kwargs: P.kwargs) -> Result_co:
            return function(model, output, options_class(*args, **kwargs))

        declared = options_of(options_class)
        wrapper.__signature__ = _signature(function, declared)  # type: ignore[attr-defined]
        wrapper.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(
            OPTIONS_LINE, "\n".join(_docstring_entry(each) for each in declared)
        )
        return wrapper

    return decorate


def _signature(function: Callable[..., Any], declared: tuple[Option, ...]) -> inspect.Signature:
    """Return the function's signature with keyword-only parameters in place of the last parameter."""
    own = inspect.signature(function)
    keyword_only = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for each in declared
    ]
    return own.replace(parameters=[*list(own.parameters.values())[:-1], *keyword_only])


def _docstring_entry(declared: Option) -> str:
    text = f"{declared.name}: {declared.help} {declared.python}"
    return textwrap.fill(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)
