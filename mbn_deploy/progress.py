"""Progress of long work, reported to a callback, so that only the command line prints."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # the step's name, how much of it is done, of how much


def silent(step: str, done: int, total: int) -> None:
    """Ignore the report."""
    _ = step, done, total
