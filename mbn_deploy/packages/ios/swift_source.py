"""Swift text: names and literals that mean what they say whatever is in them (docs.swift.org, "Lexical Structure")."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mbn_deploy.errors import UsageError

_TYPE = re.compile(r"[A-Z][A-Za-z0-9_]{0,63}")
# Reserved words that begin with a capital letter, and what the generated code calls by its short name.
_TAKEN = frozenset({
    *("Any", "Array", "Bundle", "CGContext", "CGFloat", "CGImageAlphaInfo", "CGRect", "CGSize", "Data", "Error"),
    *("Failure", "Float", "Foundation", "Golden", "Int", "Interpreter", "Prediction", "Protocol", "Self", "String"),
    *("TensorFlowLite", "Type", "UIImage", "UIKit", "UInt32", "UInt8", "URL", "Bool"),
})  # fmt: skip


def type_name(name: str) -> str:
    """`name` if a class can be called so; `UsageError` that says what can."""
    if not _TYPE.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a Swift class: a capital letter first, then letters, digits and _, up to 64 of them, "
            "as in FlowerClassifier"
        )
    if name in _TAKEN:
        raise UsageError(f"{name!r} cannot be the class: the code uses another one of that name")
    return name


def string(text: str) -> str:
    """A string literal; all but plain ASCII becomes the code of the character, so that nothing can end it."""
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    plain = " " <= character <= "~" and character not in '"\\'
    return character if plain else f"\\u{{{ord(character):X}}}"


def floats(values: Iterable[float]) -> str:
    """An array's literal of numbers."""
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"
