"""Write the table of a sweep as CSV, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.sweep.latency import Pass
from mbn_deploy.sweep.page import page
from mbn_deploy.sweep.table import Row, to_csv, to_dict


def write_tables(out: Path, table: Sequence[Row], timed: Pass | None) -> None:
    """`table.csv`, `table.json` and `table.html`, each replaced in one step; raises `InputError`."""
    contents = {
        "csv": to_csv(table),
        "json": json.dumps(to_dict(table, timed), indent=1) + "\n",
        "html": page(table, timed),
    }
    for suffix, text in contents.items():
        replace_file(out / f"table.{suffix}", text.encode())
