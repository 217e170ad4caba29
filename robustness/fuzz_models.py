"""Damaged model files: what our runtime does with them, beside what the bare interpreters do with the same bytes.

    python robustness/fuzz_models.py FILE... [--count N] [--seed N] [--jobs N] [--keep DIR] [-o FILE] [--json]

Every file is damaged `count` times, each time in a way that the seed and the number decide. Each damaged file is
opened and run twice, each time in a process of its own with bounds on its memory and processor time: by
`Classifier.open`, and by LiteRT or ONNX Runtime alone. Ends with 1 if ours crashed, hung, outgrew its memory, or
raised anything but the package's own errors. `--keep` writes the files that did it there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fuzz_mutations import damaged
from fuzz_process import BAD, OUTCOMES, Bounds, bounded, forked_children, import_all, resident, run_bare, run_ours

MEMORY = 2 * 2**30  # bytes of resident memory more than the process had before
SECONDS = 20  # of processor time; the largest of these files takes well below one
WAIT = 240  # of wall time, for what sleeps: machines are shared
COLUMNS = ("ours", "bare")
SIGNALLED = ("crash", "hang", "memory")


@dataclass(frozen=True)
class Mutant:
    """One damaged file: where it comes from, and what the two did with it."""

    file: str
    number: int
    kind: str
    outcomes: dict[str, str]
    signals: dict[str, str]


def main() -> int:
    """Damage, run, count, print; 1 if ours did anything but answer or refuse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=300, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--columns", default=",".join(COLUMNS), help="ours, bare, or both")
    parser.add_argument("--keep", type=Path, help="a folder for the damaged files that ours stumbled over")
    parser.add_argument("-o", "--output", type=Path, help="the counts as JSON, into a file")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    started = time.monotonic()
    mutants = run_all(options)
    result = summary(mutants, options, time.monotonic() - started)
    text = json.dumps(result, indent=2) + "\n"
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    if options.json:
        sys.stdout.write(text)
    show(result)
    return int(any(m.outcomes.get("ours") in BAD for m in mutants))


def run_all(options: argparse.Namespace) -> list[Mutant]:
    """Every mutant of every file, in worker processes that have the interpreters imported."""
    columns = tuple(options.columns.split(","))
    work = [(path, number) for number in range(options.count) for path in options.files]
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    task = partial(_one, files=options.files, seed=options.seed, columns=columns, keep=options.keep)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), initializer=import_all) as pool:
        found = []
        for mutant in pool.map(task, work, chunksize=4):
            found.append(mutant)
            if len(found) % 500 == 0:
                print(f"{len(found)} of {len(work)}", file=sys.stderr)
        return found


def _one(
    item: tuple[Path, int], *, files: list[Path], seed: int, columns: tuple[str, ...], keep: Path | None
) -> Mutant:
    path, number = item
    kind, data = damaged(path, files, seed, number)
    file_format = path.suffix.lstrip(".")
    outcomes, signals = {}, {}
    with tempfile.NamedTemporaryFile(suffix=path.suffix) as file:
        file.write(data)
        file.flush()
        for column in columns:
            action = _ours if column == "ours" else partial(run_bare, file_format=file_format)
            ended = bounded(partial(action, file.name), Bounds(MEMORY + resident(), 8 * MEMORY, SECONDS, WAIT))
            outcomes[column], signals[column] = ended.outcome, ended.detail if ended.outcome in SIGNALLED else ""
    if keep is not None and outcomes.get("ours") in BAD:
        (keep / f"{outcomes['ours']}-{path.stem}-{seed}-{number}{path.suffix}").write_bytes(data)
    return Mutant(path.name, number, kind, outcomes, signals)


def _ours(path: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as cache, forked_children():
        os.environ["XDG_CACHE_HOME"] = cache  # where the trials that were passed are kept
        return run_ours(path)


def summary(mutants: list[Mutant], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Count by format, file and kind of damage; add the machine and the versions."""
    columns = options.columns.split(",")
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ai-edge-litert", "onnxruntime", "numpy")},
        "seed": options.seed,
        "bounds": {"memory_bytes": MEMORY, "processor_seconds": SECONDS},
        "seconds": round(seconds),
        "formats": {
            suffix: {"mutants": len(group), **{c: _counts(group, c) for c in columns}}
            for suffix in (".tflite", ".onnx")
            if (group := [m for m in mutants if m.file.endswith(suffix)])
        },
        "signals": {c: dict(Counter(m.signals[c] for m in mutants if m.signals[c])) for c in columns},
        "files": {
            path.name: {c: _counts([m for m in mutants if m.file == path.name], c) for c in columns}
            for path in options.files
        },
        "kinds": {
            kind: {c: _counts([m for m in mutants if m.kind == kind], c) for c in columns}
            for kind in sorted({m.kind for m in mutants})
        },
    }


def _counts(mutants: list[Mutant], column: str) -> dict[str, int]:
    found = Counter(mutant.outcomes[column] for mutant in mutants)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def show(result: dict[str, Any]) -> None:
    """Print the counts of the formats as a table, to stderr."""
    print(f"{'':22}{'mutants':>8}" + "".join(f"{outcome:>8}" for outcome in OUTCOMES), file=sys.stderr)
    for suffix, group in result["formats"].items():
        for column in COLUMNS:
            if column in group:
                counts = "".join(f"{group[column][outcome]:>8}" for outcome in OUTCOMES)
                print(f"{suffix} {column:<{21 - len(suffix)}}{group['mutants']:>8}{counts}", file=sys.stderr)
    print(f"signals: {result['signals']}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
