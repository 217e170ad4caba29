"""Renders a page with Jinja2: one HTML file without scripts, links, or anything that is fetched.

Whatever a template prints is escaped, and characters that cannot be seen are written as escapes first, so that names
from strangers stay text. Only SVG and what other templates printed are markup already.
"""

from __future__ import annotations

import base64
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.hashing import sha256
from mbn_deploy.report import figures
from mbn_deploy.text import visible
from mbn_deploy.version import __version__

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, folder: Path = TEMPLATES, **values: object) -> str:
    """Render a template of `folder`, which may use those of the report as well.

    Besides `values`, templates know `style` (the style sheet), `policy` (the Content-Security-Policy) and `version`.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    style = (TEMPLATES / "style.css").read_text("utf-8")
    known = {"style": style, "policy": _policy(style), "version": __version__}
    return _environment(folder).get_template(template).render(**known, **values)


def _policy(style: str) -> str:
    """Allow nothing but images inside the page and this style sheet."""
    digest = base64.b64encode(bytes.fromhex(sha256(style.encode()))).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@cache
def _environment(folder: Path) -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("jinja2", "export", "to write a page") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "base64": lambda data: base64.b64encode(data).decode(),
        "file_size": figures.file_size,
        "number": figures.number,
        "shell": shlex.quote,
    }
    return environment


def _shown(value: Any) -> Any:
    """Return what a template prints for a value: markup as it is, else text without invisible characters."""
    return value if hasattr(value, "__html__") else visible(str(value))
