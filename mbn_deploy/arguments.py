"""Checks of what callers give to the public functions: counts within a bound, and values of the right type."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

from mbn_deploy.errors import UsageError

MOST_THREADS = 1024  # more than any board or workstation has processors
MOST_INTERPRETERS = 1024  # of one pool: each has a copy of the weights
MOST_ITEMS = 10**9  # names, frames


def check_count(name: str, value: object, most: int = MOST_ITEMS) -> None:
    """Raise `UsageError` that names the bound unless `value` is a whole number from 1 to `most`."""
    if not is_whole(value) or not 1 <= index(value) <= most:  # type: ignore[arg-type]
        raise UsageError(f"{name} must be at least 1 and at most {most}, a whole number, not {value!r:.80}")


def check_number(name: str, value: object) -> None:
    """Raise `UsageError` unless `value` is a real number."""
    if not is_number(value):
        raise UsageError(f"{name} is a number, not {value!r:.80}")


def check_path(name: str, value: object) -> Path:
    """Return a path; raise `UsageError` unless `value` is a str or a path."""
    if not isinstance(value, (str, PathLike)):
        raise UsageError(f"{name} is a str or a Path, not {value!r:.80}")
    return Path(value)


def is_whole(value: object) -> bool:
    """Return whether a value is an integer, of Python or numpy, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a real number, of Python or numpy, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_types(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> None:
    """Raise `UsageError` for the first of `values` that is neither None nor of its types."""
    for name, allowed in types.items():
        value = values[name]
        if value is not None and not isinstance(value, allowed):
            raise UsageError(f"{name} takes {' or '.join(each.__name__ for each in allowed)}, not {value!r:.80}")
