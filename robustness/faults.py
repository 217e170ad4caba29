"""Kill the program, fill the disk or take a permission at every change of a file, and check what is left each time.

    .venv/bin/python robustness/faults.py [--bundle DIR] [--stages NAME,...] [--most N] [--clock N] [--kills N]
                                          [--write] [--json]

Every stage (see `fault_stages.py`) writes its output over an older one, and is disturbed at each of the changes that
it makes: opened files, new folders, moved names, removals. A kill comes right before the change, or some hundred
microseconds later, within it; others come by the clock at any moment of the whole run. Faults are errors of the same
system calls, once or from then on, and files that may not grow beyond some size. Slow stages are killed at a sample of
their changes; with --kills N every stage is killed at least N times, at each change once or more, and by the clock.

After each of them, every output must be the old one or the new one, byte for byte; then the stage is run once more
undisturbed: it must succeed and leave nothing temporary. Ends with 1 if not.

With --write the result is kept in `results/faults.json`, and the table in `docs/hostile-input.md` made from it.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from fault_hook import Counter, Fault, arm, in_child
from fault_stages import INPUT, Stage, commands, found, load, stages, temporary

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "faults.json", HERE.parent / "docs" / "hostile-input.md"
BEGIN, END = "<!-- figures of robustness/faults.py -->", "<!-- end of the figures -->"
LATER = (20e-6, 600e-6)  # seconds after a change began
BY_THE_CLOCK = 0.2  # of the kills that --kills asks for
WORKER = "MBN_FAULTS_IN_WORKER"
SIGNALS = (-signal.SIGKILL, -signal.SIGALRM)
ERRORS = {"disk full": errno.ENOSPC, "permission lost": errno.EACCES}
SIZES = 20  # sizes beyond which files may not grow, tried of each stage
REASONS = ("no space", "permission", "too large")  # one of them is in every error's text


@dataclass
class Counts:
    """Counts of what happened in one stage: the disturbed runs, and the undisturbed ones after them."""

    changes: int = 0
    killed_at_a_change: int = 0
    killed_within: int = 0
    killed_by_the_clock: int = 0
    done_before_the_kill: int = 0
    old_stands: int = 0
    new_stands: int = 0
    set_aside: int = 0  # neither, but the next run put the old one back
    lost: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # refused with exit code 3 and a reason
    errors_without_effect: int = 0  # the stage was done all the same
    wrong_errors: list[str] = field(default_factory=list)
    undisturbed: int = 0
    undisturbed_failed: int = 0
    left_behind: list[str] = field(default_factory=list)
    left_by_libraries: list[str] = field(default_factory=list)  # in the temporary folder, by every undisturbed run

    @property
    def killed(self) -> int:
        """The number of kills that came in time."""
        return self.killed_at_a_change + self.killed_within + self.killed_by_the_clock

    @property
    def good(self) -> bool:
        """Whether nothing was lost or left, and no later run failed because of a disturbed one."""
        return not (self.lost or self.undisturbed_failed or self.left_behind or self.wrong_errors)


class Trial:
    """One stage in its own folder, with a folder for temporary files beside it."""

    def __init__(self, stage: Stage, bundle: Path, root: Path, rng: random.Random) -> None:
        self.stage, self.bundle, self.rng, self.counts = stage, bundle, rng, Counts()
        self.folder, self.tmp, self.seen = root / "work", root / "tmp", root / "seen"
        self.said = ""
        self.usual: frozenset[str] = frozenset()
        self.folder.mkdir(parents=True)
        self.tmp.mkdir()
        self.counter = Counter(None if stage.forked else self.seen)
        self.versions = [self._reference(0), self._reference(1)]
        if self.versions[0] == self.versions[1]:
            raise SystemExit(f"{stage.name}: its versions do not differ")
        self.stands, self.turn = 1, 0

    def _reference(self, version: int) -> dict[str, str | None]:
        started = time.monotonic()
        ended = self.run(version, Fault())
        if not self.stage.forked:
            self.usual = frozenset(path.name for path in self.tmp.iterdir())
            self.counts.left_by_libraries = sorted(self.usual)
        if ended != 0 or self.left():
            raise SystemExit(f"{self.stage.name} fails undisturbed: {ended} {self.left()}\n{self.said}")
        self.seconds = time.monotonic() - started
        self.counts.changes = self.counter.value
        return found(self.folder, self.stage.outputs)

    def left(self) -> list[str]:
        """List the temporary files that this program left."""
        outputs = self.stage.outputs + self.stage.unlike
        mine = [path.name for path in self.tmp.iterdir() if path.name not in self.usual and not _of_python(path)]
        return temporary(self.folder, outputs) + sorted(mine)

    def run(self, version: int, fault: Fault, *, largest: int | None = None, after: float | None = None) -> int:
        """Run the stage in its own process, kill it after `after` seconds if given, and return how it ended."""

        def work() -> None:
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.tmp)
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            if after is not None:
                signal.setitimer(signal.ITIMER_REAL, after)
            if self.stage.forked:
                arm([self.folder, self.tmp], fault, self.counter)
                self.stage.work(self.folder, version)
            else:
                places = [str(path) for path in (self.bundle, self.folder, self.tmp, self.seen)]
                task = [self.stage.name, *places, version, asdict(fault)]
                os.execv(sys.executable, [sys.executable, __file__, "--child", json.dumps(task)])  # noqa: S606

        ended, self.said = in_child(work)
        return ended

    def moment(self) -> float:
        """Choose how many seconds after its start a run is killed; runs in memory take some milliseconds in all."""
        return self.rng.uniform(min(0.01, self.seconds / 10), self.seconds)

    def kill(self, fault: Fault, *, after: float | None = None) -> None:
        """Run the other version and kill it; then check the outputs."""
        wanted = 1 - self.stands
        ended = self.run(wanted, fault, after=after)
        if ended in SIGNALS:
            kind = {"kill": "killed_at_a_change", "kill later": "killed_within"}.get(fault.kind, "killed_by_the_clock")
            setattr(self.counts, kind, getattr(self.counts, kind) + 1)
        else:
            self.counts.done_before_the_kill += 1
        self._look(wanted)

    def fail(self, name: str, fault: Fault, *, largest: int | None = None) -> None:
        """Run the other version with a fault: it must report it and exit with 3, or succeed all the same."""
        wanted = 1 - self.stands
        ended = self.run(wanted, fault, largest=largest)
        if ended == INPUT and "Traceback" not in self.said and any(r in self.said.lower() for r in REASONS):
            self.counts.errors[name] = self.counts.errors.get(name, 0) + 1
        elif ended == 0:
            self.counts.errors_without_effect += 1
        else:
            self.counts.wrong_errors.append(f"{name} {fault}: {ended}: {self.said[-2000:]}")
        self._look(wanted)

    def _look(self, wanted: int) -> None:
        """Check that every output is the old one or the new one; an undisturbed run repairs the rest."""
        state, old, new = found(self.folder, self.stage.outputs), self.versions[1 - wanted], self.versions[wanted]
        whole = all(state[name] in (old[name], new[name]) for name in state)
        aside = [path for path in self.folder.rglob(".*.old") if not whole]
        if whole:
            self.counts.new_stands += state == new
            self.counts.old_stands += state != new
        elif aside and found(aside[0].parent, [aside[0].name])[aside[0].name] in old.values():
            self.counts.set_aside += 1
        else:
            self.counts.lost += 1
        self.stands = wanted if state == new else 1 - wanted
        self.turn += 1
        if self.turn % self.stage.undisturbed_every == 0:
            self.repair(wanted)

    def repair(self, version: int) -> None:
        """Run undisturbed."""
        self.counts.undisturbed += 1
        ended = self.run(version, Fault())
        self.counts.undisturbed_failed += ended != 0 or found(self.folder, self.stage.outputs) != self.versions[version]
        self.counts.left_behind += self.left()
        self.stands = version


def _of_python(path: Path) -> bool:
    """Return whether this is the empty file with which `tempfile` tries a folder, left there by a kill."""
    return re.fullmatch(r"[a-z0-9_]{8}", path.name) is not None and path.is_file() and path.stat().st_size == 0


def tried(trial: Trial, most: int, clock: int, kills: int | None) -> Counts:
    """Kill at every change, as far as `most` and the stage's cost allow it, and by the clock; then try faults."""
    rng, changes = trial.rng, trial.counts.changes
    chosen = sorted(rng.sample(range(changes), min(most, -(-changes // trial.stage.cost))))
    if kills is None:
        for at in chosen:
            trial.kill(Fault("kill", at))
            trial.kill(Fault("kill later", at, delay=rng.uniform(*LATER)))
        for _ in range(min(clock, trial.stage.moments)):
            trial.kill(Fault(), after=trial.moment())
    else:
        kill_often(trial, kills)
    for name, number in ERRORS.items():
        for at in chosen:
            trial.fail(name, Fault("error", at, number=number, lasts=bool(rng.getrandbits(1))))
    largest = max(path.stat().st_size for path in trial.folder.rglob("*") if path.is_file())
    for _ in range(max(2, SIZES // trial.stage.cost)):
        trial.fail("files may not grow", Fault(), largest=int(math.exp(rng.uniform(0, math.log(largest)))))
    trial.repair(1 - trial.stands)
    return trial.counts


def kill_often(trial: Trial, kills: int) -> None:
    """Kill a stage `kills` times or more: at each change, in turns before it and within it, then by the clock."""
    rng, changes = trial.rng, trial.counts.changes
    at_changes = max(changes, round(kills * (1 - BY_THE_CLOCK)))
    for number in range(at_changes):
        at = number % changes
        within = bool((number + number // changes) % 2)
        trial.kill(Fault("kill later", at, delay=rng.uniform(*LATER)) if within else Fault("kill", at))
    by_the_clock = round(kills * BY_THE_CLOCK)
    tries = 10 * (by_the_clock + at_changes - trial.counts.killed)  # some runs are done before they are killed
    while tries > 0 and (trial.counts.killed_by_the_clock < by_the_clock or trial.counts.killed < kills):
        trial.kill(Fault(), after=trial.moment())
        tries -= 1


def child(request: str) -> None:
    """Run a stage that is a command in this process, which is no fork, so that TensorFlow's threads are whole."""
    name, bundle, folder, tmp, seen, version, fault = json.loads(request)
    stage = next(stage for stage in commands(Path(bundle)) if stage.name == name)
    watched = [folder, tmp], fault, seen
    if stage.in_worker:
        os.environ[WORKER] = json.dumps(watched)
    else:
        watch(*watched)
    stage.work(Path(folder), version)


def watch(folders: Sequence[str], fault: dict[str, Any], seen: str) -> None:
    """Watch this process; the changes are counted in the file `seen`."""
    arm([Path(folder) for folder in folders], Fault(**fault), Counter(Path(seen)))


def a_bundle(folder: Path) -> Path:
    """Float32 and int8 of the network that ships with this program, made by the command."""
    code = (
        "import sys; from pathlib import Path; from mbn_deploy.demo.digits import shipped; "
        "from mbn_deploy.cli.main import main; shipped()[0].write(Path(sys.argv.pop()), by_class=False); main()"
    )
    from importlib import resources

    weights = str(resources.files("mbn_deploy.demo") / "mobilenet_v1_0.25_32.weights.h5")
    arguments = ["export", "mobilenet_v1", "--alpha", "0.25", "--size", "32", "--classes", "10", "--weights", weights]
    arguments += ["-o", str(folder / "bundle"), "--precisions", "float32,int8", "--formats", "tflite"]
    arguments += ["--calibrate", str(folder / "digits"), "--calibration-count", "50", str(folder / "digits")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
    return folder / "bundle"


def measured(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run all stages that were asked for."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mbn-faults-") as name:
        root = Path(name)
        bundle = shutil.copytree(options.bundle, root / "bundle") if options.bundle else a_bundle(root)
        load()
        for number, stage in enumerate(stages(bundle)):
            if options.stages and stage.name not in options.stages:
                continue
            rng = random.Random(f"{options.seed} {stage.name}")  # noqa: S311 (moments, no secrets)
            started = time.monotonic()
            trial = Trial(stage, bundle, root / str(number), rng)
            counts = tried(trial, options.most, options.clock, options.kills)
            results[stage.name] = asdict(counts) | {"good": counts.good}
            tell(f"{stage.name}: {counts.killed} kills in {time.monotonic() - started:.0f} s: {asdict(counts)}")
            shutil.rmtree(root / str(number))
    versions = {name: metadata.version(name) for name in ("mbn-deploy", "numpy", "keras", "tensorflow-cpu")}
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seed": options.seed,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "stages": results,
    }


def _kept(measured: dict[str, Any]) -> dict[str, Any]:
    """Add the stages that were not asked for this time from the results of before."""
    old = json.loads(RESULTS.read_text("utf-8"))["stages"] if RESULTS.exists() else {}
    return {**old, **measured}


def table(result: dict[str, Any]) -> str:
    """Return the page's table, a row a stage."""
    rows = [
        "| written by | changes | kills | by the clock | old stands | new stands | errors | lost | left | next fails |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total = [0] * 8
    for name, counts in result["stages"].items():
        kills = counts["killed_at_a_change"] + counts["killed_within"] + counts["killed_by_the_clock"]
        cells = [
            kills,
            counts["killed_by_the_clock"],
            counts["old_stands"],
            counts["new_stands"],
            sum(counts["errors"].values()),
            counts["lost"],
            len(counts["left_behind"]),
            counts["undisturbed_failed"],
        ]
        total = [one + other for one, other in zip(total, cells, strict=True)]
        rows.append(f"| {name} | {counts['changes']} | " + " | ".join(map(str, cells)) + " |")
    rows.append("| **all** | | " + " | ".join(f"**{count}**" for count in total) + " |")
    aside = sum(counts["set_aside"] for counts in result["stages"].values())
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    rows.append("")
    rows.append(
        f"Measured {result['date']} on {result['system'].split('-')[0]}, Python {result['python']}, {versions}; "
        f"seed {result['seed']}. {aside} times, where folders cannot be exchanged, nothing stood in between, and the "
        "next run put the old bundle back."
    )
    return "\n".join(rows)


def with_table(page: str, made: str) -> str:
    """Return the page with the new table between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all faults and print the counts; return 1 if anything was lost or left behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="one with int8 and float32 .tflite files; else it is made")
    parser.add_argument("--stages", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--most", type=int, default=200, help="changes tried of a stage at most")
    parser.add_argument("--clock", type=int, default=20, help="kills of a stage by the clock at most")
    parser.add_argument("--kills", type=int, help="kills of each stage, in place of the two options above")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the result, and write the page's table")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args(arguments)
    result = measured(options, lambda text: print(text, file=sys.stderr, flush=True))
    if options.write:
        result["stages"] = _kept(result["stages"])
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), table(result)), encoding="utf-8")
    print(json.dumps(result, indent=1) if options.json else table(result))
    return int(not all(counts["good"] for counts in result["stages"].values()))


if __name__ == "__mp_main__" and WORKER in os.environ:  # multiprocessing imports this file in the process of a sweep
    watch(*json.loads(os.environ[WORKER]))
elif __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        sys.exit(main())
