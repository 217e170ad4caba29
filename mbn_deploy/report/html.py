"""HTML as text that knows it is HTML: what is put into it is escaped unless it is HTML already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from mbn_deploy.text import visible

VOID = frozenset({"img", "meta", "br", "wbr"})


class Html(str):
    """Text that may stand in a page as it is."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: Any) -> Html:
    """An element. `class_` is `class`, other underscores are hyphens; None leaves an attribute or content out."""
    said = "".join(f' {_key(key)}="{text(value)}"' for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{joined(content)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """Parts in a row; None is nothing."""
    return Html("".join(text(part) for part in parts if part is not None))


def text(value: object) -> str:
    """`value` so that it can stand in an element or an attribute."""
    return str(value) if isinstance(value, Html) else escape(visible(str(value)))


def _key(name: str) -> str:
    return name.rstrip("_").replace("_", "-") if name != "viewBox" else name
