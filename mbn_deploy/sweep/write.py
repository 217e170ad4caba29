"""Writes the table of a sweep as CSV, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.sweep.latency import LatencyPass
from mbn_deploy.sweep.page import page
from mbn_deploy.sweep.table import Row, to_csv, to_dict


def write_tables(out: Path, table: Sequence[Row], timed: LatencyPass | None) -> None:
    """Write `table.csv`, `table.json` and `table.html` into `out`, each replaced atomically. Raises `InputError`."""
    contents = {
        "csv": to_csv(table),
        "json": json.dumps(to_dict(table, timed), indent=1) + "\n",
        "html": page(table, timed),
    }
    for suffix, text in contents.items():
        replace_file(out / f"table.{suffix}", text.encode())
