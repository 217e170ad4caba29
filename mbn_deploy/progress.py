"""How long work tells that it goes on: a callback, so that no layer prints by itself."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # the step's name, how much of it is done, of how much


def silent(step: str, done: int, total: int) -> None:
    """Tell nobody."""
    _ = step, done, total
