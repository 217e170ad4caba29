"""Templates of packages: text with `§{name}` placeholders, because `$` and `%` mean something in most languages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from string import Template


class _SectionSignTemplate(Template):
    delimiter = "§"


def template_bytes(package: str, name: str) -> bytes:
    """Return the file `name` among the templates of `package`, such as `pi`."""
    return (resources.files(f"mbn_deploy.packages.{package}") / "templates" / name).read_bytes()


def fill(text: str, values: Mapping[str, object]) -> str:
    """Replace every placeholder in `text`; raises `KeyError` for one without a value."""
    return _SectionSignTemplate(text).substitute(values)


def fill_template(package: str, name: str, values: Mapping[str, object]) -> str:
    """Return the template `name` of `package` with every placeholder replaced."""
    return fill(template_bytes(package, name).decode(), values)
