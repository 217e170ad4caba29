"""Exports that are killed at random moments over a bundle that stands there: what is left each time.

    python benchmarks/kill_export.py [--kills N] [--seed N] [--json]

Each run is a real `export --overwrite` of the demo's smallest network in a process of its own, which gets SIGKILL
somewhere between its start and a little more than an export takes. Afterwards the folder must hold the old bundle or
the new one, whole; the run after the last kill must succeed and leave nothing temporary. Ends with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

from mbn_deploy.errors import MbnError
from mbn_deploy.runtime import open_bundle

CODE = "from mbn_deploy.cli.main import main; main()"
MOST_RUNS = 4  # for each kill: some exports are done before it comes
WRITING = 0.5  # this share of the kills falls into the last tenth of the export, where files are written


def main() -> int:
    """Kill, look, count; 1 if anything was lost or stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mbn-kill-") as name:
        result = tried(Path(name), options.kills, random.Random(options.seed))  # noqa: S311 (moments, no secrets)
    print(json.dumps(result, indent=2) if options.json else result)
    return int(bool(result["lost"] or result["left_behind"] or not result["last_run_succeeds"]))


def tried(folder: Path, kills: int, rng: random.Random) -> dict[str, object]:
    """Counts of what was found after each kill."""
    out, temporary = folder / "work" / "bundle", folder / "tmp"
    temporary.mkdir()
    started = time.monotonic()
    _export(out, temporary, number=0).wait()
    usual = time.monotonic() - started
    usual_files = set(_temporary(out, temporary))  # libraries leave a file of their own, killed or not
    stood, found = _state(out), {"old": 0, "new": 0, "lost": 0, "killed": 0}
    leftovers = 0
    number = 0
    while found["killed"] < kills and number < MOST_RUNS * kills:
        number += 1
        child, started = _export(out, temporary, number), time.monotonic()
        share = rng.uniform(0.85, 1.1) if rng.random() < WRITING else rng.uniform(0, 1)
        try:
            child.wait(share * usual)
            usual = min(usual, time.monotonic() - started)  # the first one was slower than those after it
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            found["killed"] += 1
        state = _state(out)
        found["lost" if state is None else "old" if state == stood else "new"] += 1
        stood = state
        leftovers += bool(set(_temporary(out, temporary)) - usual_files)
    succeeded = _export(out, temporary, number + 1).wait() == 0 and _state(out) is not None
    return {
        "runs": number,
        **found,
        "kills_that_left_temporary_files": leftovers,
        "left_behind": sorted(set(_temporary(out, temporary)) - usual_files),
        "last_run_succeeds": succeeded,
    }


def _export(out: Path, temporary: Path, number: int) -> subprocess.Popen[bytes]:
    weights = str(resources.files("mbn_deploy.demo") / "mobilenet_v1_0.25_32.weights.h5")
    command = ["export", "mobilenet_v1", "--alpha", "0.25", "--size", "32", "--classes", "10", "--weights", weights]
    command += ["-o", str(out), "--overwrite", "--precisions", "float32", "--preprocess", f"{number}/255"]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *command],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _state(out: Path) -> bytes | None:
    """The manifest of a bundle that is whole, else None."""
    try:
        open_bundle(out)
    except MbnError:
        return None
    return (out / "manifest.json").read_bytes()


def _temporary(out: Path, temporary: Path) -> list[str]:
    beside = [path.name for path in out.parent.iterdir() if path != out]
    return sorted(beside + [path.name for path in temporary.iterdir()])


if __name__ == "__main__":
    sys.exit(main())
