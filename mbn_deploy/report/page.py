"""The page as a whole: one file, no script, no link, nothing that is fetched."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from mbn_deploy.report import layers, results, sections
from mbn_deploy.report.data import Report
from mbn_deploy.report.html import Html, joined, tag
from mbn_deploy.version import __version__


def page(report: Report) -> str:
    """`report` as HTML 5. Equal reports give equal text."""
    parts = [
        sections.origin(report),
        results.files(report),
        results.tradeoff(report),
        sections.pictures(report),
        sections.usage(report),
        results.rungs(report),
        layers.layers(report),
    ]
    header = tag("header", tag("h1", report.manifest.model), results.headline(report))
    footer = tag("footer", tag("p", f"Made by mbn-deploy {__version__}. {_STABLE}"))
    return document(f"{report.manifest.model}: report", header, tag("main", *parts), footer)


_STABLE = (
    "The same export gives the same bytes in every file of this folder but this one: its times are measured, and are "
    "not the same twice."
)


def document(title: str, *body: object) -> str:
    """A whole page in the reports' style."""
    style = resources.files(__package__).joinpath("style.css").read_text("utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    return f"<!doctype html>\n{joined([tag('html', head, tag('body', *body), lang='en')])}\n"


def _policy(style: str) -> str:
    """Nothing may be loaded or run but pictures inside the page and this style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
