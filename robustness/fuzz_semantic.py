"""Count what this package and the bare interpreters do with model files that are well formed and mean nonsense.

    python robustness/fuzz_semantic.py tflite|onnx [--count N] [--seed N] [--columns ours,bare] [--commands N] [--write]

File number i of a seed is always the same: `fuzz_tflite_models.py` and `fuzz_onnx_models.py` make it. Each is opened
and run in a process of its own, forked from this one: by `Classifier.open(...).answer`, whose trial has a child process
as always, only forked, too; and by LiteRT or ONNX Runtime alone. `--commands` runs some of the files by the installed
command besides. Ends with 1 if ours crashed, hung, outgrew its memory, or raised anything but the package's own errors;
`--keep` writes the files that did it into a folder.

With `--write` the counts are kept in `results/fuzz_semantic_FORMAT.json`, beside those of a column that was counted
before with the same files, and the table in `docs/hostile-input.md` is made from them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fuzz_process import (
    BAD,
    OUTCOMES,
    Bounds,
    Ended,
    bounded,
    bounded_all,
    forked_children,
    import_all,
    resident,
    run_bare,
    run_command,
    run_ours,
)

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "hostile-input.md"
BEGIN, END = "<!-- figures of robustness/fuzz_semantic.py -->", "<!-- end of the semantic figures -->"
FORMATS = ("tflite", "onnx")
COLUMNS = ("ours", "bare")
PEAK = 3 * 2**29  # bytes, beside what Python and the interpreters' code take: the bound of a trial
PART = 25  # files that share a process, unless one of them ends it
MAPPED = 16 * 2**30  # protects the machine
SECONDS, WALL = 20, 150  # of processor time and until the end, for ours
BARE_PEAK, BARE_SECONDS = 2**29, 5  # for the interpreter alone: what a trial allows to small files
# How a refusal came about, by the words of its message; the first that fits counts.
_REASONS = {
    "trial: crash": r"tried in a process of its own, (crashed|ended without)",
    "trial: time": r"tried in a process of its own, (gave no answer within|took more than)",
    "trial: memory": r"tried in a process of its own, needs more memory",
    "interpreter": r"does not accept it|failed on it|that onnxruntime can run",
    "structure": r"damaged|is too large for any",
    "an option is missing": r"^UsageError",
}
_OTHER = "no classifier"
Maker = Callable[[int, int], tuple[str, tuple[str, ...], bytes]]


@dataclass
class Counts:
    """What a column did with the files.

    Attributes:
        outcomes: how often each came.
        reasons: what the refusals came from.
        bad: the numbers of the files with an outcome that is neither an answer nor a refusal.
        seconds: of wall time.
        peak: the most bytes of resident memory of any process.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bad: dict[str, list[int]] = field(default_factory=dict)
    seconds: float = 0
    peak: int = 0

    def add(self, number: int, ended: Ended) -> None:
        """Count a run."""
        self.outcomes[ended.outcome] += 1
        if ended.outcome == "error":
            self.reasons[reason(ended.detail)] += 1
        if ended.outcome in BAD:
            self.bad.setdefault(ended.outcome, []).append(number)
        self.seconds += ended.seconds
        self.peak = max(self.peak, ended.peak)

    def as_json(self) -> dict[str, Any]:
        """Return it for the results."""
        return {
            "outcomes": {outcome: self.outcomes[outcome] for outcome in OUTCOMES},
            "reasons": dict(sorted(self.reasons.items())),
            "bad": self.bad,
            "seconds": round(self.seconds),
            "peak_mib": round(self.peak / 2**20),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, run, count, print; 1 if ours did anything but answer or refuse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--columns", type=lambda text: text.split(","), default=list(COLUMNS), help="ours, bare, or both"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--commands", type=int, default=0, help="files that are run by the installed command besides")
    parser.add_argument("--keep", type=Path, help="a folder for the files that ours stumbled over")
    parser.add_argument("-o", "--output", type=Path, help="a file for the counts, written again and again")
    parser.add_argument("--write", action="store_true", help="keep the counts, and write the page's table")
    options = parser.parse_args(arguments)
    result = measured(options, lambda text: print(text, file=sys.stderr, flush=True))
    if options.write:
        path = results_file(options.format)
        path.write_text(json.dumps(_joined(path, result), indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), table(all_results())), encoding="utf-8")
    print(json.dumps(result, indent=1))
    return int(any(result["columns"][name]["bad"] for name in ("ours", "command") if name in result["columns"]))


def results_file(file_format: str) -> Path:
    """Return where the counts of a format are kept."""
    return HERE / "results" / f"fuzz_semantic_{file_format}.json"


def maker(file_format: str) -> Maker:
    """Return the function that makes the files of a format."""
    if file_format == "tflite":
        from fuzz_tflite_models import tflite_file

        return tflite_file
    from fuzz_onnx_models import onnx_file

    return onnx_file


def measured(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run all files; return the counts of the columns, and what they were counted with."""
    began, hashed, operations, twists = time.monotonic(), hashlib.sha256(), set[str](), set[str]()
    columns = {name: Counts() for name in (*options.columns, *(["command"] if options.commands else []))}
    parts = [range(start, min(start + PART, options.count)) for start in range(0, options.count, PART)]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), initializer=_prepare, initargs=(options,)) as pool:
        for part in pool.map(partial(_run, options), parts):
            for run in part:
                hashed.update(run.sha256)
                operations.add(run.operation)
                twists.update(run.twists)
                for name, ended in run.ended.items():
                    columns[name].add(run.number, ended)
                    if name != "bare" and ended.outcome in BAD:
                        tell(f"{name} {run.number} {run.operation} {run.twists}: {ended}")
            counts = {name: dict(counted.outcomes) for name, counted in columns.items()}
            tell(f"{part[-1].number + 1} files, {time.monotonic() - began:.0f} s: {counts}")
            if options.output is not None:
                result = _result(options, part[-1].number + 1, hashed.hexdigest(), (operations, twists), columns)
                options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return _result(options, options.count, hashed.hexdigest(), (operations, twists), columns)


def _result(
    options: argparse.Namespace, count: int, sha256: str, names: tuple[set[str], set[str]], columns: dict[str, Counts]
) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ai-edge-litert", "onnxruntime", "onnx", "numpy")},
        "seed": options.seed,
        "count": count,
        "sha256": sha256,
        "operations": len(names[0]),
        "twists": len(names[1]),
        "bounds": {
            "ours": {"memory_bytes": PEAK, "processor_seconds": SECONDS},
            "bare": {"memory_bytes": BARE_PEAK, "processor_seconds": BARE_SECONDS},
        },
        "columns": {name: counts.as_json() for name, counts in columns.items()},
    }


@dataclass(frozen=True)
class FileRun:
    """A file and how its runs ended, by column."""

    number: int
    operation: str
    twists: tuple[str, ...]
    sha256: bytes
    ended: dict[str, Ended]


def _prepare(options: argparse.Namespace) -> None:
    """Import what a worker needs, and make the first file, so that processes can be forked from here on."""
    maker(options.format)(options.seed, 0)
    import_all("litert" if options.format == "tflite" else "onnx")


def _run(options: argparse.Namespace, numbers: range) -> list[FileRun]:
    """Make files and run them, in a process of a column, or in several where files end it."""
    made = [maker(options.format)(options.seed, number) for number in numbers]
    every = max(1, options.count // options.commands) if options.commands else 0
    bounds = Bounds(peak=PEAK + resident(), mapped=MAPPED, processor=SECONDS, wall=WALL)
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name, f"{number}.{options.format}") for number in numbers]
        for path, (_, _, data) in zip(paths, made, strict=True):
            path.write_bytes(data)
        ended: dict[str, list[Ended]] = {}
        if "ours" in options.columns:
            ended["ours"] = bounded_all([partial(_ours, path) for path in paths], bounds)
        if "bare" in options.columns:
            bare = replace(bounds, peak=BARE_PEAK + resident(), processor=BARE_SECONDS)
            ended["bare"] = bounded_all([partial(run_bare, str(path), options.format) for path in paths], bare)
        sampled = {n: bounded(partial(_command, path), bounds) for n, path in zip(numbers, paths, strict=True)
                   if every and n % every == 0}  # fmt: skip
    runs = []
    for at, (operation, twists, data) in enumerate(made):
        ends = {column: those[at] for column, those in ended.items()}
        if numbers[at] in sampled:
            ends["command"] = sampled[numbers[at]]
        for column, end in ends.items():
            if column != "bare" and end.outcome in BAD:
                _keep(options, numbers[at], end.outcome, data)
        runs.append(FileRun(numbers[at], operation, twists, hashlib.sha256(data).digest(), ends))
    return runs


def _own_cache(path: Path, name: str) -> None:
    """Keep the trials that were passed where no other run of this or another file finds them."""
    os.environ["XDG_CACHE_HOME"] = f"{path}.{name}"


def _command(path: Path) -> tuple[str, str]:
    _own_cache(path, "command")
    return run_command(path, _picture(path.parent))


def _ours(path: Path) -> tuple[str, str]:
    _own_cache(path, "ours")
    with forked_children():
        return run_ours(str(path))


def _picture(folder: Path) -> Path:
    """Return a picture."""
    from PIL import Image

    path = folder / "picture.png"
    Image.new("RGB", (32, 32), (99, 99, 99)).save(path)
    return path


def _keep(options: argparse.Namespace, number: int, outcome: str, data: bytes) -> None:
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"{outcome}-{options.seed}-{number}.{options.format}").write_bytes(data)


def reason(detail: str) -> str:
    """Return what a refusal came from, by its message."""
    return next((name for name, words in _REASONS.items() if re.search(words, detail)), _OTHER)


def _joined(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Add the columns that were counted before with the same files."""
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if old.get("sha256") != result["sha256"]:
        return result
    return {**result, "columns": {**old["columns"], **result["columns"]}}


def all_results() -> dict[str, dict[str, Any]]:
    """Return the results that are kept, by format."""
    paths = {name: results_file(name) for name in FORMATS}
    return {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.exists()}


_TITLES = {"ours": "mbn-deploy", "command": "mbn-deploy run", "bare": "interpreter alone"}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the page's table, a row a format and column, and a sentence about what it was counted with."""
    rows = ["| files | run by | files run | answer | refused | crash | hang | memory | other error | most memory |"]
    rows.append("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, result in results.items():
        for column, counts in sorted(result["columns"].items(), key=lambda item: list(_TITLES).index(item[0])):
            outcomes = counts["outcomes"]
            cells = [sum(outcomes.values()), *(outcomes[outcome] for outcome in OUTCOMES)]
            shown = " | ".join(f"{cell:,}" for cell in cells)
            rows.append(f"| .{name} | {_TITLES[column]} | {shown} | {counts['peak_mib']} MiB |")
    rows.append("")
    for name, result in results.items():
        caught = result["columns"].get("ours", {}).get("reasons", {})
        words = {"crash": "crashed", "time": "took too long", "memory": "grew"}
        trials = [f"{caught[f'trial: {key}']} {word}" for key, word in words.items() if f"trial: {key}" in caught]
        shown = ", ".join(trials) or "none failed"
        versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
        rows.append(
            f".{name}: seed {result['seed']}, {result['operations']} operations, {result['twists']} kinds of twists; "
            f"in the trial {shown}. Measured {result['date']} on {result['machine']}, Python "
            f"{result['python']}, {versions}."
        )
    return "\n".join(rows)


def with_table(page: str, made: str) -> str:
    """Return the page with the new table between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
