"""Damage bundles as honest mistakes do, put size and sha256 right in the manifest, and ask `verify`.

    python robustness/damage.py [--bundles DIR] [--count N] [--most N] [--seed N] [--board CPU] [--write] [--json]

A file that somebody's tool rebuilt or exchanged has the right checksum in the manifest, and other weights, biases,
scales, zero points, order of classes, labels, preprocessing or parameters of an operation (`damage_kinds.py`). A damage
counts if at least 1 % of held-back digits, plain or in colours (or of photographs, `--data`), get another answer from
the bundle or from the model file alone; `verify` must say no to 99 % of those. It must say yes to every sound file:
with one thread and with four, with and without XNNPACK, and on emulated ARM boards (`--board`, repeated; they also get
a sample of the damages).

With --write the result is kept in `results/damage.json`, and the table in `docs/hostile-input.md` made from it. Ends
with 1 if `verify` sees fewer damages, or refuses a sound file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import damage_trial
from damage_kinds import KINDS, chosen_mistakes
from damage_pictures import Folder, load
from damage_trial import Trial

from mbn_deploy.manifest import MANIFEST_NAME

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "damage.json", HERE.parent / "docs" / "hostile-input.md"
BEGIN, END = "<!-- figures of robustness/damage.py -->", "<!-- end of the figures of damages -->"
AIM = 0.99
ON_BOARDS = 40  # damages that each board is given
Say = Callable[[str], None]


def export_bundles(folder: Path, say: Say) -> list[Path]:
    """Export the demo's networks in every precision, and once more as int8-mixed; return the bundles."""
    from mbn_deploy.demo.digits import CLASSES
    from mbn_deploy.demo.networks import DEMO_SPECS
    from mbn_deploy.demo.run import demo_model, write_pictures
    from mbn_deploy.pipeline.export import export_model

    pictures = write_pictures(folder / "demo")
    bundles = []
    for name in DEMO_SPECS:
        for kind, precisions, recipe in (
            ("all", ["float32", "float16", "dynamic", "int8", "int16x8"], None),
            ("mixed", ["float32", "int8"], "int8-mixed"),
        ):
            say(f"exporting {name}, {kind}")
            bundles.append(folder / f"{name}-{kind}")
            export_model(
                demo_model(name),
                bundles[-1],
                precisions=precisions,
                resize="squash",
                calibrate=pictures.calibration,
                labels=list(CLASSES),
                report=False,
                recipe=recipe,
            )
    return bundles


def targets(bundles: Iterable[Path]) -> list[tuple[Path, str]]:
    """List (bundle, model file); of the mixed bundles only the mixed files, since others have the rest."""
    found = []
    for bundle in bundles:
        files = json.loads((bundle / MANIFEST_NAME).read_text("utf-8"))["files"]
        mixed = [file for file in files if file["precision"] == "int8-mixed"]
        found += [(bundle, file["path"]) for file in mixed or files]
    return found


def try_file(item: tuple[Path, str], *, seed: int, options: argparse.Namespace, xnnpack: bool) -> list[Trial]:
    """Try the damages of a seed on a model file."""
    bundle, target = item
    mistakes = chosen_mistakes(seed, rooms=options.rooms, most=options.most, salt=target)
    tried = [damage_trial.try_one(bundle, target, each, data=_data(options), xnnpack=xnnpack) for each in mistakes]
    return [trial for trial in tried if trial is not None]


def _data(options: argparse.Namespace) -> Folder | None:
    return None if options.data is None else Folder(*options.data)


def try_all(options: argparse.Namespace, bundles: list[Path], say: Say, *, xnnpack: bool = True) -> list[Trial]:
    """Try the damages on every file, in worker processes."""
    work = [(item, seed) for item in targets(bundles) for seed in range(options.seed, options.seed + options.count)]
    if not xnnpack:
        work = [(item, seed) for item, seed in work if item[1].endswith(".tflite")]
    trials: list[Trial] = []
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), initializer=damage_trial.prepare) as pool:
        tasks = [
            pool.submit(partial(try_file, seed=seed, options=options, xnnpack=xnnpack), item) for item, seed in work
        ]
        for (item, seed), task in zip(work, tasks, strict=True):
            trials += (found := task.result())
            missed = [trial for trial in found if trial.relevant and not trial.seen]
            say(f"{item[0].name} {item[1]}, seed {seed}: {sum(t.relevant for t in found)} kept, {len(missed)} missed")
    return trials


def try_sound(bundles: list[Path]) -> dict[str, dict[str, int]]:
    """Return the exit codes of `verify` for sound bundles, by kernels and threads; codes other than 0 are wrong."""
    ways: dict[str, tuple[list[str], bool]] = {
        "x86-64, 1 thread": (["--threads", "1"], True),
        "x86-64, 4 threads": (["--threads", "4"], True),
        "x86-64, 1 thread, without XNNPACK": (["--threads", "1"], False),
        "x86-64, 4 threads, without XNNPACK": (["--threads", "4"], False),
    }
    return {
        way: dict(
            Counter(
                str(damage_trial.forked(partial(damage_trial.verify, bundle, *words, xnnpack=xnnpack), -1))
                for bundle in bundles
            )
        )
        for way, (words, xnnpack) in ways.items()
    }


_ON_BOARD = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from mbn_deploy.cli.main import app
codes = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    codes[folder.name] = CliRunner().invoke(app, ["verify", str(folder)]).exit_code
print(json.dumps(codes))
"""


def try_board(cpu: str, bundles: list[Path], trials: Sequence[Trial], site: Path, say: Say) -> dict[str, Any]:
    """Verify sound bundles and a sample of the damaged ones on an emulated board, where the package is in `site`."""
    sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))
    from arm import ARMV7L, Board

    runnable = [t for t in trials if t.relevant and (cpu != ARMV7L or t.file.startswith("tflite"))]
    chosen = runnable[:: max(1, len(runnable) // ON_BOARDS)][:ON_BOARDS]
    by_name = {bundle.name: bundle for bundle in bundles}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for bundle in bundles:
            (folder / f"sound-{bundle.name}").symlink_to(bundle.resolve())
        for number, trial in enumerate(chosen):
            bundle = by_name[trial.network]
            target = next(path for each, path in targets([bundle]) if _file_kind(each, path) == trial.file)
            made = damage_trial.damage(bundle, target, trial.mistake)
            if made is not None:
                damage_trial.write(made[0], bundle, folder / f"damaged-{number}")
        say(f"{cpu}: {len(bundles)} sound bundles, {len(chosen)} damaged ones")
        done = Board(cpu, site).python("-c", _ON_BOARD, folder, timeout=3600)
        if done.returncode:
            raise RuntimeError(f"{cpu}: {done.stderr[-2000:]}")
        codes = json.loads(done.stdout.splitlines()[-1])
    damaged = [code for name, code in codes.items() if name.startswith("damaged")]
    missed = [asdict(chosen[int(name[8:])]) for name, code in codes.items() if name.startswith("damaged") and code == 0]
    sound = Counter(str(code) for name, code in codes.items() if name.startswith("sound"))
    return {"sound": dict(sound), "kept": len(damaged), "seen": sum(map(bool, damaged)), "missed": missed}


def _file_kind(bundle: Path, path: str) -> str:
    files = json.loads((bundle / MANIFEST_NAME).read_text("utf-8"))["files"]
    entry = next(file for file in files if file["path"] == path)
    return f"{entry['format']} {entry['precision']}"


def counts(trials: Iterable[Trial]) -> dict[str, int]:
    """Count damages that were made, those that do not run, those that are kept, and those that `verify` sees."""
    listed = list(trials)
    kept = [trial for trial in listed if trial.relevant]
    return {
        "made": len(listed),
        "do_not_run": sum(trial.changed is None for trial in listed),
        "kept": len(kept),
        "seen": sum(trial.seen for trial in kept),
    }


def summary(trials: Sequence[Trial], options: argparse.Namespace) -> dict[str, Any]:
    """Count by kind of file and by kind of damage, and list what was missed."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ai-edge-litert", "onnxruntime", "numpy")},
        "seeds": [options.seed, options.seed + options.count - 1],
        "pictures": load(_data(options)).second,
        "least": damage_trial.LEAST,
        "all": counts(trials),
        "files": {file: counts(t for t in trials if t.file == file) for file in sorted({t.file for t in trials})},
        "rooms": {room: counts(t for t in trials if t.mistake.room == room) for room in options.rooms or KINDS},
        "cells": {
            file: {
                room: counts(t for t in trials if (t.file, t.mistake.room) == (file, room))
                for room in options.rooms or KINDS
            }
            for file in sorted({t.file for t in trials})
        },
        "missed": [asdict(trial) for trial in trials if trial.relevant and not trial.seen],
    }


def good(result: dict[str, Any]) -> bool:
    """Return whether enough damages are seen everywhere, and all sound files are accepted."""
    sound = [*result["sound"].values(), *(board["sound"] for board in result["boards"].values())]
    tried = [
        *result["files"].values(),
        result.get("without_xnnpack", {"kept": 0, "seen": 0}),
        *result["boards"].values(),
    ]
    return all(set(codes) == {"0"} for codes in sound) and all(c["seen"] >= AIM * c["kept"] for c in tried)


def table(result: dict[str, Any]) -> str:
    """Return the page's table: a row a kind of file, a column a kind of damage, seen of kept."""
    rooms = list(result["rooms"])
    rows = ["| file | " + " | ".join(rooms) + " | all |", "|---|" + "--:|" * (len(rooms) + 1)]
    for file, by_room in [*result["cells"].items(), ("**all**", result["rooms"])]:
        total = result["all"] if file == "**all**" else result["files"][file]
        rows.append(f"| {file} | " + " | ".join(_seen(by_room[room]) for room in rooms) + f" | {_seen(total)} |")
    return "\n".join([*rows, "", *_sentences(result)])


def _seen(cell: dict[str, int]) -> str:
    return f"{cell['seen']} of {cell['kept']}" if cell["kept"] else "-"


def _sentences(result: dict[str, Any]) -> list[str]:
    total, (first, last) = result["all"], result["seeds"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = []
    lines.append(
        f"{total['made']} damages were made; {total['do_not_run']} of the files do not run any more, and "
        f"{total['kept']} change at least {100 * result['least']:.0f} % of the answers. `verify` says no to "
        f"{100 * total['seen'] / max(total['kept'], 1):.1f} % of these."
    )
    if "without_xnnpack" in result:
        lines.append(f"By LiteRT's built-in kernels (without XNNPACK): {_seen(result['without_xnnpack'])}.")
    lines += [f"On an emulated {cpu}: {_seen(board)}." for cpu, board in result["boards"].items()]
    ways = {**result["sound"], **{cpu: board["sound"] for cpu, board in result["boards"].items()}}
    refused = {way: sum(n for code, n in codes.items() if code != "0") for way, codes in ways.items()}
    accepted = sum(codes.get("0", 0) for codes in ways.values())
    lines.append(f"Sound bundles: {accepted} runs accepted, {sum(refused.values())} refused ({'; '.join(ways)}).")
    lines.append(
        f"Measured {result['date']} on {result['machine']}, Python {result['python']}, {versions}; "
        f"seeds {first} to {last}."
    )
    return lines


def with_table(page: str, made: str) -> str:
    """Return the page with the new table between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def measured(options: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Make bundles unless there are some, try everything, and return the counts."""
    with tempfile.TemporaryDirectory() as place:
        folder = options.bundles or Path(place)
        bundles = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}")) or export_bundles(folder, say)
        damage_trial.prepare()
        result: dict[str, Any] = {"sound": try_sound(bundles)}
        say(f"sound: {result['sound']}")
        trials = try_all(options, bundles, say)
        result |= summary(trials, options)
        if options.built_in:
            result["without_xnnpack"] = counts(try_all(options, bundles, say, xnnpack=False))
        result["boards"] = {}
        for cpu, site in _sites(options.board, Path(place)):
            result["boards"][cpu] = try_board(cpu, bundles, trials, site, say)
            say(f"{cpu}: {result['boards'][cpu]}")
        return result


def _sites(boards: Sequence[str], folder: Path) -> Iterable[tuple[str, Path]]:
    """Install this package for each board's machine, from the wheels of the emulated userland."""
    if not boards:
        return
    sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))
    import arm

    wheel, sites = arm.build_wheel(folder), {}
    for cpu in boards:
        machine = "armv7l" if cpu == arm.ARMV7L else "aarch64"
        if machine not in sites:
            sites[machine] = arm.install(wheel, folder / machine, machine)
        yield cpu, sites[machine]


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, verify, count and print; return 1 if too little is seen or a sound file is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, help="a folder of bundles of the demo; exported there if it has none")
    parser.add_argument(
        "--data", nargs=3, type=Path, metavar=("FOLDER", "LABELS", "SYNSETS"), help="photographs in place of digits"
    )
    parser.add_argument("--count", type=int, default=3, help="seeds, each of which damages every file in every way")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--most", type=int, help="damages of a file and seed, chosen at random; by default every kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rooms", type=lambda text: text.split(","), help=f"only these: {', '.join(KINDS)}")
    parser.add_argument("--built-in", action="store_true", help="try the .tflite files without XNNPACK, too")
    parser.add_argument("--board", action="append", default=[], help="an emulated ARM processor (tests/helpers/arm.py)")
    parser.add_argument("--write", action="store_true", help="keep the result, and write the page's table")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args(arguments)
    result = measured(options, lambda text: print(text, file=sys.stderr, flush=True))
    if options.write:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), table(result)), encoding="utf-8")
    print(json.dumps(result, indent=1) if options.json else table(result))
    return int(not good(result))


if __name__ == "__main__":
    sys.exit(main())
