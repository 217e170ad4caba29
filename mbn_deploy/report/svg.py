"""SVG elements as text, escaped as they are put together."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mbn_deploy.text import visible


class Svg(str):
    """SVG markup. Jinja2 and `element` put it into a page as it is; any other text they escape."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the markup, as Jinja2 asks for it."""
        return self


def element(name: str, /, *content: object, **attributes: object) -> Svg:
    """Return an element with its content and attributes; those that are None are left out.

    `class_` becomes `class`, other underscores become hyphens.
    """
    said = "".join(f' {_attribute(key)}="{_escaped(value)}"' for key, value in attributes.items() if value is not None)
    return Svg(f"<{name}{said}>{joined(content)}</{name}>")


def joined(parts: Iterable[object]) -> Svg:
    """Join parts; those that are None are left out."""
    return Svg("".join(_escaped(part) for part in parts if part is not None))


def _escaped(value: object) -> str:
    return str(value) if isinstance(value, Svg) else escape(visible(str(value)))


def _attribute(name: str) -> str:
    return name if name == "viewBox" else name.rstrip("_").replace("_", "-")
