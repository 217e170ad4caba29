"""Sphinx extension: read pages with the outputs of their code blocks (see `blocks`)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from blocks import BlockError, blocks_of, outputs, with_outputs
from made_wheels import offline_index
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.add_config_value("blocks_cache", "", "")
    app.connect("source-read", _run)
    return {"version": "1", "parallel_read_safe": True}


def _run(app: Sphinx, name: str, source: list[str]) -> None:
    found = blocks_of(source[0], name)
    if not found:
        return
    cache = Path(app.config.blocks_cache or Path(app.doctreedir) / "blocks")
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = outputs(found, name, cache=cache, environment=offline_index(Path(folder)))
    except BlockError as error:
        raise ExtensionError(str(error)) from error
    source[0] = with_outputs(source[0], found, made)
