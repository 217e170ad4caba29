"""Print what `scripts/coverage.sh` measured, by package; exit with 1 where too few branches were taken.

A branch is a way out of a line that has several. "branches" is the share of them that a test took; "lines and
branches" is the figure that `coverage report` prints as its total.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from coverage import Coverage
from coverage.exceptions import NoDataError

LEAST = 90.0  # per cent of the branches


class Counts(NamedTuple):
    """Lines that can run and branches: all, and those that did."""

    lines: int
    lines_run: int
    branches: int
    branches_taken: int

    @property
    def of_branches(self) -> float:
        """The share of branches taken, in per cent; a file without branches has missed none."""
        return 100 * self.branches_taken / self.branches if self.branches else 100.0

    @property
    def of_both(self) -> float:
        """The share of lines and branches, in per cent, as `coverage report` counts."""
        everything = self.lines + self.branches
        return 100 * (self.lines_run + self.branches_taken) / everything if everything else 100.0


def measured(program: Coverage) -> dict[str, Counts]:
    """Return the counts by file, relative to the working directory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        program.json_report(outfile=str(path))
        files = json.loads(path.read_text("utf-8"))["files"]
    keys = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    return {name: Counts(*(entry["summary"][key] for key in keys)) for name, entry in files.items()}


def by_package(files: Mapping[str, Counts]) -> dict[str, Counts]:
    """Group the counts by folder below the package; its own modules stand under its name."""
    groups = defaultdict(list)
    for name, counts in files.items():
        groups["/".join(Path(name).parts[:-1][:2])].append(counts)
    return {name: total(groups[name]) for name in sorted(groups)}


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of the counts."""
    return Counts(*map(sum, zip(*counts, strict=True)))


def table(rows: Mapping[str, Counts]) -> str:
    """Format the rows as an aligned table."""
    width = max(map(len, rows))
    head = f"{'':{width}}   lines branches   taken  branches  lines and branches"
    return "\n".join(
        [
            head,
            *(
                f"{name:{width}} {row.lines:7} {row.branches:8} {row.branches_taken:7}"
                f" {row.of_branches:7.1f} % {row.of_both:17.1f} %"
                for name, row in rows.items()
            ),
        ]
    )


def main() -> None:
    """Print the files below the bound, then the packages and the total."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", metavar="FOLDER", help="write coverage's pages there")
    parser.add_argument("--least", type=float, default=LEAST, help="per cent of the branches (default: %(default)s)")
    options = parser.parse_args()
    program = Coverage()
    program.load()
    try:
        files = measured(program)
    except NoDataError as error:
        sys.exit(f"{error} scripts/coverage.sh measures.")
    if options.html:
        program.html_report(directory=options.html)
    if weak := {name: row for name, row in sorted(files.items()) if row.of_branches < options.least}:
        print(f"Files below {options.least:g} % of their branches\n\n{table(weak)}\n")
    everything = total(files.values())
    print(table(by_package(files) | {"total": everything}))
    if everything.of_branches < options.least:
        sys.exit(f"{everything.of_branches:.2f} % of the branches were taken; {options.least:g} % are wanted")


if __name__ == "__main__":
    main()
