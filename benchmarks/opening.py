"""Measure what opening a model costs: a bundle, and a lone file that is tried in a child process first.

    .venv/bin/python benchmarks/opening.py BUNDLE [--before FOLDER] [--rounds 15] [--arm cortex-a72 ...] [--write]

BUNDLE has an int8 .tflite and a float32 .onnx file. `--before` is a checkout of an older commit, whose package opens
the same files. Every opening happens in a Python of its own, in rounds, so that what else the machine does falls on all
alike. Time runs from the first import until the file is open. Processor time includes that of the child process.

With `--arm`, guest instructions are counted in the same way on emulated processors (see `arm_instructions.py`), those
of the child process too. QEMU's guests cannot start a program of their own kind, so a script in place of the child's
Python starts QEMU once more; all that it runs counts, the start of Python too. Without `--arm`, the counts of the last
run stay.

With `--write` the results go to `results/opening.json`, and the tables into `docs/hostile-input.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
import arm  # noqa: E402 - the tests' way into the userland

RESULTS, PAGE = ROOT / "benchmarks" / "results" / "opening.json", ROOT / "docs" / "hostile-input.md"
BEGIN, END = "<!-- figures of benchmarks/opening.py -->", "<!-- end of the figures -->"
FILES = {"int8 .tflite": ("*_int8.tflite", "litert"), "float32 .onnx": ("*_float32.onnx", "onnx")}
OPEN = """
import sys, time
started = time.perf_counter()
from mbn_deploy.runtime import Classifier
path, backend, precision, isolate = sys.argv[1:]
more = {} if isolate == "default" else {"isolate": isolate == "True"}
classifier = Classifier.open(path, backend=backend, precision=precision or None, threads=1, **more)
seconds = time.perf_counter() - started
"""
TELL = """
import json, resource
classifier.close()
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([seconds, sum(one.ru_utime + one.ru_stime for one in used)]))
"""
COUNT = "import os, sys\nsys.executable = sys.argv.pop()\nos.getpgid(0)" + OPEN + "os.getpgid(0)\n"


@dataclass(frozen=True)
class Way:
    """A way to open a model: from a bundle or as a lone file, remembered or not, and with which option."""

    name: str
    bundle: bool = False
    isolate: str = "default"
    remembered: bool = False
    before: bool = False


WAYS = (
    Way("bundle, before", bundle=True, before=True),
    Way("bundle", bundle=True),
    Way("lone file, before", before=True),
    Way("lone file, first time"),
    Way("lone file, again", remembered=True),
    Way("lone file, `--trust`", isolate="False"),
    Way("lone file, `--isolate`", isolate="True"),
)


@dataclass(frozen=True)
class Setup:
    """The bundle, the checkout of an older commit if there is one, and a folder for caches."""

    bundle: Path
    before: Path | None
    scratch: Path

    def ways(self) -> list[Way]:
        """Return the ways that can be measured."""
        return [way for way in WAYS if self.before is not None or not way.before]

    def arguments(self, file: str, way: Way) -> list[str]:
        """Return the arguments of `OPEN`."""
        pattern, backend = FILES[file]
        path = next(self.bundle.glob(pattern))
        precision = file.partition(" ")[0] if way.bundle else ""
        return [str(self.bundle if way.bundle else path), backend, precision, way.isolate]

    def cache(self, way: Way) -> Path:
        """Return the cache folder: one that is kept for what is to be remembered, else without a trial."""
        folder = self.scratch / f"cache-{way.remembered}"
        if not way.remembered:
            (folder / "mbn-deploy" / "trials.json").unlink(missing_ok=True)
        return folder


def measure(setup: Setup, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians of all files and ways, in seconds."""
    cases = [(file, way) for file in FILES for way in setup.ways()]
    for case in cases:
        opened(setup, *case)  # .pyc files are written, pages are in memory, trials are remembered
    measured: dict[tuple[str, Way], list[tuple[float, float]]] = {case: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 else reversed(cases):
            measured[case].append(opened(setup, *case))
    table: dict[str, dict[str, dict[str, float]]] = {file: {} for file in FILES}
    for (file, way), costs in measured.items():
        seconds, cpu = (statistics.median(cost[which] for cost in costs) for which in (0, 1))
        table[file][way.name] = {"seconds": round(seconds, 5), "cpu_seconds": round(cpu, 5)}
    return table


def opened(setup: Setup, file: str, way: Way) -> tuple[float, float]:
    """Open a file in a fresh process; return the seconds that passed, and those of the processor."""
    package = setup.before if way.before and setup.before is not None else ROOT
    environment = os.environ | {"PYTHONPATH": str(package), "XDG_CACHE_HOME": str(setup.cache(way))}
    words = [sys.executable, "-c", OPEN + TELL, *setup.arguments(file, way)]
    # Python looks for modules in the current folder first, which may be that of another commit.
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=setup.scratch)
    if done.returncode != 0:
        raise SystemExit(f"{file}, {way.name}: {done.stderr}")
    seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return seconds, cpu


@dataclass(frozen=True)
class Guest:
    """The project installed for emulated processors, today's and the older one, and the plugin that counts."""

    setup: Setup
    sites: dict[bool, Path]  # by whether it is the older one
    plugin: Path

    def count(self, cpu: str, file: str, way: Way) -> int:
        """Return the guest instructions of one opening, those of its child process included."""
        marks, latest, script = (self.setup.scratch / name for name in ("marks.txt", "latest.txt", "python"))
        site = self.sites[way.before]
        again = arm.emulator(cpu, site, "-plugin", f"{self.plugin},latest={latest}")
        script.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in again) + ' "$@"\n')
        script.chmod(0o755)
        cache = f"XDG_CACHE_HOME={self.setup.cache(way)}"
        words = arm.emulator(cpu, site, "-plugin", f"{self.plugin},out={marks}", "-E", cache)
        for _ in range(1 + way.remembered):
            latest.unlink(missing_ok=True)
            command = [*words, "-c", COUNT, *self.setup.arguments(file, way), str(script)]
            subprocess.run(command, check=True, capture_output=True, cwd=self.setup.scratch)
        before, after = map(int, marks.read_text().split())
        return after - before + (int(latest.read_text()) if latest.exists() else 0)


def guest(setup: Setup) -> Guest:
    """Install the project for emulated processors, and build the plugin."""
    site, older = setup.scratch / "site", setup.scratch / "site-before"
    arm.install(arm.build_wheel(setup.scratch), site, "aarch64")
    if setup.before is not None:
        older.mkdir()
        for path in site.iterdir():
            (older / path.name).symlink_to(setup.before / path.name if path.name == "mbn_deploy" else path)
    plugin = setup.scratch / "instructions.so"
    source = Path(__file__).with_name("instructions.c")
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", plugin, source], check=True)
    return Guest(setup, {False: site, True: older}, plugin)


def count(setup: Setup, cpus: list[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Return the guest instructions of all files and ways on each processor."""
    board = guest(setup)
    return {
        cpu: {file: {way.name: board.count(cpu, file, way) for way in setup.ways()} for file in FILES} for cpu in cpus
    }


def _kept_counts() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))["arm"] if RESULTS.exists() else {}
    return kept


def tables(result: dict[str, Any]) -> str:
    """Return the page's tables, a row a way."""
    lines = ["| opened | " + " | ".join(f"{file}: ms | processor ms" for file in FILES) + " |"]
    lines.append("|---|" + "--:|--:|" * len(FILES))
    for way in (way.name for way in WAYS if way.name in result["x86-64"][next(iter(FILES))]):
        costs = [result["x86-64"][file][way] for file in FILES]
        cells = [f"{cost[kind] * 1e3:.0f}" for cost in costs for kind in ("seconds", "cpu_seconds")]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += [
        "",
        f"Medians of {result['rounds']} interleaved rounds, each opening in a new process, from the first import",
    ]
    lines[-1] += f" on; {result['bundle']} on x86-64, {result['processors']} processors, one thread, {versions},"
    lines[-1] += f" {result['date']}."
    if result["arm"]:
        lines += ["", *_arm_table(result["arm"])]
    return "\n".join(lines)


def _arm_table(counts: dict[str, dict[str, dict[str, int]]]) -> Iterator[str]:
    columns = [(cpu, file) for cpu in counts for file in FILES]
    yield "| million instructions | " + " | ".join(f"{cpu}: {file}" for cpu, file in columns) + " |"
    yield "|---|" + "--:|" * len(columns)
    first = counts[columns[0][0]][columns[0][1]]
    for way in (way.name for way in WAYS if way.name in first):
        yield f"| {way} | " + " | ".join(f"{counts[cpu][file][way] / 1e6:,.0f}" for cpu, file in columns) + " |"


def with_tables(page: str, made: str) -> str:
    """Return the page with the new tables between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main() -> int:
    """Measure, print the tables, and write them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--arm", nargs="*", default=[], choices=arm.AARCH64, help="emulated processors")
    parser.add_argument("--write", action="store_true", help="keep the result, and write the page's tables")
    options = parser.parse_args()
    if options.arm and not arm.READY:
        print(arm.REASON, file=sys.stderr)
        return 4
    with TemporaryDirectory() as scratch:
        setup = Setup(options.bundle.resolve(), options.before and options.before.resolve(), Path(scratch))
        result = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "bundle": json.loads((setup.bundle / "manifest.json").read_text("utf-8"))["model"],
            "rounds": options.rounds,
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "versions": {name: metadata.version(name) for name in ("ai-edge-litert", "onnxruntime", "numpy")},
            "x86-64": measure(setup, options.rounds),
            "arm": count(setup, options.arm) if options.arm else _kept_counts(),
        }
    if options.write:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables(result)), encoding="utf-8")
    print(tables(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
