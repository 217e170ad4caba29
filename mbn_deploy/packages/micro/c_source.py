"""C and C++ text: identifiers, strings and arrays that mean the same whatever is in them."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import UsageError

_COLUMNS = 16
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
# The keywords of C11 and C++20.
_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const consteval
constexpr constinit const_cast continue decltype default delete do double dynamic_cast else enum explicit export
extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator
or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof static
static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union
unsigned using virtual void volatile while xor xor_eq main
"""
_RESERVED = frozenset(_KEYWORDS.split())


def identifier(name: str) -> str:
    """Return `name` if it is a C identifier in small letters; raises `UsageError` that says what is."""
    if not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be a C name: it takes a small letter and then small letters, digits and _; no keyword"
        )
    return name


def identifier_of(text: str) -> str:
    """Make a C identifier from any text."""
    candidate = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    is_usable = _IDENTIFIER.fullmatch(candidate) and candidate not in _RESERVED
    return candidate if is_usable else f"model_{candidate}".rstrip("_")


def string(text: str) -> str:
    """Return a C string literal; all but plain ASCII is written as the octal codes of its UTF-8 bytes.

    An octal code ends after three digits, so a digit behind it cannot become part of it. `?` is written as a code, too,
    because three characters that begin with `??` were something else once (trigraphs).
    """
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def _character(byte: int) -> str:
    is_plain = 0x20 <= byte < 0x7F and chr(byte) not in '"\\?'
    return chr(byte) if is_plain else f"\\{byte:03o}"


def numbers(values: npt.NDArray[np.integer]) -> str:
    """Return the elements of an array's initializer, 16 a line."""
    flat = [str(value) for value in values.reshape(-1).tolist()]
    rows = (", ".join(flat[at : at + _COLUMNS]) for at in range(0, len(flat), _COLUMNS))
    return ",\n".join(f"    {row}" for row in rows)
