"""Swift text: names and literals that mean the same whatever is in them (docs.swift.org, "Lexical Structure")."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mbn_deploy.errors import UsageError

_TYPE = re.compile(r"[A-Z][A-Za-z0-9_]{0,63}")
# Reserved words that begin with a capital letter, and types that the generated code uses by their short names.
_TAKEN = frozenset({
    *("Any", "Array", "Bundle", "CGContext", "CGFloat", "CGImageAlphaInfo", "CGRect", "CGSize", "Data", "Error"),
    *("Failure", "Float", "Foundation", "Golden", "Int", "Interpreter", "Prediction", "Protocol", "Self", "String"),
    *("TensorFlowLite", "Type", "UIImage", "UIKit", "UInt32", "UInt8", "URL", "Bool"),
})  # fmt: skip


def type_name(name: str) -> str:
    """Return `name` if it can be the name of a class; raises `UsageError` that says what can."""
    if not _TYPE.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a Swift class: it takes a capital letter and then letters, digits and _, at most 64 "
            "in all, as in FlowerClassifier"
        )
    if name in _TAKEN:
        raise UsageError(f"{name!r} cannot be the class: the code uses another one of that name")
    return name


def string(text: str) -> str:
    """Return a string literal; all but plain ASCII is written by code, so that nothing in the text can end it."""
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    is_plain = " " <= character <= "~" and character not in '"\\'
    return character if is_plain else f"\\u{{{ord(character):X}}}"


def floats(values: Iterable[float]) -> str:
    """Return an array literal of numbers."""
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"
