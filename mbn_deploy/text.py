"""Text made safe for a terminal, a page or a comment, lists of names made short, and counts with their nouns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

SHOWN = 3  # names that a message lists before it says how many more there are

# Control characters, text direction marks, line and paragraph separators, and lone surrogates: they hide or reorder
# what stands around them, and terminals obey some of them.
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def visible(text: str, *, keep: str = "") -> str:
    """Replace characters that cannot be seen by their escapes, as Python writes them; those in `keep` stay."""
    return "".join(
        c if c in keep or unicodedata.category(c) not in _INVISIBLE else c.encode("unicode_escape").decode()
        for c in text
    )


def plain_words(text: str) -> str:
    """Replace all but letters, digits and a few signs by `?`, so that the text can stand in any comment or Markdown."""
    return "".join(c if c.isalnum() or c in " ._+,:;()-" else "?" for c in text)


def shorten(names: Iterable[str]) -> str:
    """Join the first names of a list for a message, and say how many more there are."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, as in `1 thread` and `2 threads`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
