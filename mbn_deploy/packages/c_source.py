"""C and C++ text: identifiers, strings and arrays that mean what they say whatever is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import UsageError

_COLUMNS = 16
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
# C11, C++20; what begins with an underscore or a digit is no identifier here anyway.
_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const consteval
constexpr constinit const_cast continue decltype default delete do double dynamic_cast else enum explicit export
extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator
or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof static
static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union
unsigned using virtual void volatile wchar_t while xor xor_eq main
"""
_RESERVED = frozenset(_KEYWORDS.split())


def identifier(name: str) -> str:
    """`name` if it can be a C identifier in small letters; `UsageError` that says what can."""
    if not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
        raise UsageError(f"{name!r} cannot be a C name: small letters, digits and _, no digit first, no keyword")
    return name


def identifier_of(text: str) -> str:
    """A C identifier made from any text."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return plain if _IDENTIFIER.fullmatch(plain) and plain not in _RESERVED else f"model_{plain}".rstrip("_")


def string(text: str) -> str:
    """A C string literal; all but plain ASCII becomes the octal codes of its UTF-8 bytes.

    Octal codes end after three digits, so that no letter behind one joins it; `?` is one too, as
    three characters with two of them were something else once (trigraphs).
    """
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def _character(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and chr(byte) not in '"\\?'
    return chr(byte) if plain else f"\\{byte:03o}"


def numbers(values: npt.NDArray[np.integer]) -> str:
    """The elements of an array's initializer, 16 a line."""
    flat = [str(value) for value in values.reshape(-1).tolist()]
    rows = (", ".join(flat[at : at + _COLUMNS]) for at in range(0, len(flat), _COLUMNS))
    return ",\n".join(f"    {row}" for row in rows)


def comment(lines: Iterable[str]) -> str:
    """A block of `//` lines: text cannot end it, as its own line ends are gone."""
    plain = (re.sub(r"[^\x20-\x7e]|\\$", "?", line) for line in lines)
    return "\n".join(f"// {line}".rstrip() for line in plain)
