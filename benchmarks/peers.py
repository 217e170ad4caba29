"""mbn-deploy beside other ways from a Keras model to a file: same weights, same photographs, same threads.

    .venv/bin/python benchmarks/peers.py setup                     # .peers/venv with the peers' packages
    .venv/bin/python benchmarks/peers.py files accuracy latency table [--data ../shared] [--work .peers/work]
        [--models v2 ...] [--routes nncf ...] [--again] [--images 200] [--photographs 700] [--rounds 9]

setup      a virtual environment over this one, with what the dependency group `peers` names
files      every route (peers_routes.py) in a process of its own: seconds, memory, bytes
accuracy   every file in its own interpreter and in OpenVINO on the validation photographs, beside the Keras model
latency    every file and engine in turns, one and two threads, without AMX, and with it where the machine has it
table      docs/peers.md from results/peers.json; nothing is measured

Stages go on where they were stopped: what is in the JSON file and the work folder is not made again without --again.
A peer that fails is written down with its error. Nothing is tuned on the validation photographs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import peers_table
from accuracy import CASES, Case
from peers_ahead import MODE, SERVER, has_tiles
from peers_engines import ENGINES
from peers_latency import measured
from peers_make import LONGEST, MADE
from peers_routes import OURS, ROUTES, Figures, Route, short
from quantization import machine

from mbn_deploy.data.dataset import load_dataset
from mbn_deploy.manifest import Preprocess
from mbn_deploy.verify.statistics import paired_difference, proportion

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS, PAGE = HERE / "results" / "peers.json", ROOT / "docs" / "peers.md"
CLASSES = 1000
THREADS = (1, 2)
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONWARNINGS": "ignore"}
Classes = npt.NDArray[np.int64]


def _label(file: Figures) -> str:
    """Return the name of a file in the results."""
    return str(file["name"]) if file["route"] == "published" else f"{file['route']} {file['format']}"


@dataclass(eq=False)
class Peers:
    """The request, and the results so far."""

    options: argparse.Namespace

    @cached_property
    def results(self) -> Figures:
        """The JSON file."""
        path: Path = self.options.json
        found: Figures = json.loads(path.read_text("utf-8")) if path.exists() else {"models": {}}
        return found

    @property
    def python(self) -> Path:
        """The interpreter that has the peers' packages."""
        return ROOT / ".peers" / "venv" / "bin" / "python"

    def save(self) -> None:
        """Write the JSON file, whole or not at all."""
        path: Path = self.options.json
        self.results["machine"] = machine()
        self.results["date"] = time.strftime("%Y-%m-%d", time.gmtime())
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)

    def cases(self) -> Iterator[tuple[Case, Figures]]:
        """Return the models asked for, with their figures."""
        for case in CASES:
            if any(part in case.file for part in self.options.models):
                empty: Figures = {"routes": {}, "files": {}}
                yield case, self.results["models"].setdefault(case.file, empty)

    def folder(self, case: Case, route: str = "") -> Path:
        """Return the folder of a route's files."""
        path: Path = self.options.work / short(case.file) / route
        return path

    def stands(self, case: Case, route: Route) -> bool:
        """Return whether the route is done, and is newer than the one that it starts from."""
        made, source = (self.folder(case, name) / MADE for name in (route.name, route.source or route.name))
        return made.exists() and source.exists() and source.stat().st_mtime <= made.stat().st_mtime

    def files(self, case: Case) -> dict[str, Figures]:
        """Return the record of every file that was made, with its path, by label."""
        found = {}
        for route in ROUTES:
            made = self.folder(case, route.name)
            if (made / MADE).exists():
                for file in json.loads((made / MADE).read_text("utf-8"))["files"]:
                    told = file | {"path": str(made / file["name"]), "route": route.name}
                    found[_label(told)] = told
        return found

    def wanted(self, route: str) -> bool:
        """Return whether the route is one of those asked for."""
        return any(route.startswith(part) for part in self.options.routes)


def setup(_: Peers) -> None:
    """Make an environment whose packages come before those of this one, which it sees as well."""
    folder = ROOT / ".peers" / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    ask = "import site; print(site.getsitepackages()[0])"
    ours, theirs = (
        subprocess.run([p, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
        for p in (sys.executable, python)
    )
    (Path(theirs) / "base.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--group", "peers"]
    subprocess.run(command, check=True, cwd=ROOT)


def files(peers: Peers) -> None:
    """Make what is not there."""
    options = peers.options
    for case, found in peers.cases():
        for route in filter(lambda route: peers.wanted(route.name), ROUTES):
            folder = peers.folder(case, route.name)
            if peers.stands(case, route) and route.name in found["routes"] and not options.again:
                continue
            print(f"{short(case.file)}: {route.name}", file=sys.stderr, flush=True)
            python = sys.executable if route.ours else peers.python
            command = [python, HERE / "peers_make.py", route.name, case.file, folder]
            command += ["--data", options.data, "--images", str(options.images)]
            found["routes"][route.name] = _made(command, folder, route)
            found["files"] = {label: row for label, row in found["files"].items() if row["route"] != route.name}
            found.pop("rounds", None)
            peers.results.setdefault("versions", {}).update(found["routes"][route.name].pop("versions", {}))
            peers.results["calibration_images"] = options.images
            peers.save()
        for label, file in peers.files(case).items():
            kept = {key: file[key] for key in ("route", "format", "precision", "bytes")}
            found["files"].setdefault(label, {"engines": {}}).update(kept)
        found["files"] = {label: found["files"][label] for label in peers.files(case)}  # in the order of the routes
        peers.save()


def _made(command: list[Any], folder: Path, route: Route) -> Figures:
    """Run one route and return its figures or its error. Its files and answers of before are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
    if not (folder / MADE).exists():
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        return {"error": f"{route.name} ended with {done.returncode}: {last}".replace(str(ROOT), "")[:LONGEST]}
    figures: Figures = json.loads((folder / MADE).read_text("utf-8"))
    del figures["files"]
    return figures


def _photographs(peers: Peers, size: int) -> tuple[Path, Classes]:
    """Return a file with the whole validation photographs as uint8 (N, size, size, 3), and their classes."""
    data, count = peers.options.data / "imagenet", peers.options.photographs
    synsets = [line.split()[0] for line in (data / "synsets.txt").read_text("utf-8").splitlines() if line.strip()]
    dataset = load_dataset(data / "validation", CLASSES, synsets=synsets)
    path: Path = peers.options.work / f"photographs_{size}_{count}.npy"
    chosen = np.random.default_rng(0).permutation(len(dataset))[:count]
    chosen.sort()
    if not path.exists():
        images = list(dataset.images((size, size), Preprocess(resize="squash")))
        np.save(path, np.stack([images[at] for at in chosen]))
    return path, np.asarray(dataset.truth)[chosen]


def accuracy(peers: Peers) -> None:
    """Ask every file in every engine, then compare."""
    ask = [str(peers.python), "-c", "from importlib.metadata import version; print(version('openvino'))"]
    version = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    peers.results.setdefault("versions", {})["openvino"] = version or "not installed"
    for case, found in peers.cases():
        told = peers.files(case)
        pixels, classes = _photographs(peers, 224)
        reference = peers.folder(case) / "keras.npy"
        if not reference.exists() or peers.options.again:
            _answers(peers, "keras", {"weights": case.file, "data": str(peers.options.data)}, pixels, reference)
        truth = np.load(reference)
        found["keras"] = {"images": len(classes), **_against(truth, truth, classes)}
        for label, file in told.items():
            if not peers.wanted(file["route"]):
                continue
            engines = found["files"][label]["engines"]
            print(f"{short(case.file)}: {label}", file=sys.stderr, flush=True)
            own = pixels if "_128_" not in label else _photographs(peers, 128)[0]
            _asked(peers, file, engines, own)
            for engine in (e for e in engines if "error" not in engines[e]):
                engines[engine] |= _against(np.load(_answer_file(file, engine)), truth, classes)
        _against_ours(told, found["files"], truth, classes)
        peers.results["photographs"] = len(classes)
        peers.save()


def _asked(peers: Peers, file: Figures, engines: Figures, pixels: Path) -> None:
    """Answers of every engine that has none yet; an error stands in its place."""
    for engine in ENGINES:
        # Without XNNPACK only what XNNPACK does not take.
        if engine == "built-in" and ("error" not in engines["native"] or file["format"] != "tflite"):
            continue
        known = "error" in engines.get(engine, {}) or _answer_file(file, engine).exists()
        error = engines.get(engine, {}).get("error")
        if not known or peers.options.again:
            error = _answers(peers, engine, file, pixels, _answer_file(file, engine))
        engines[engine] = engines.get(engine, {}) if error is None else {"error": error}
        if error is None:
            engines[engine].pop("error", None)


def _answer_file(file: Figures, engine: str) -> Path:
    return Path(file["path"] + f".{engine}.npy")


def _answers(peers: Peers, engine: str, file: Figures, pixels: Path, out: Path) -> str | None:
    """Write them in a child; the error if there is one."""
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "file.json"
        described.write_text(json.dumps(file), encoding="utf-8")
        command = [str(part) for part in (peers.python, HERE / "peers_answers.py", engine, described, pixels, out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
    if out.exists():
        return None
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    if done.returncode < 0:
        return f"the process ended with signal {-done.returncode}"
    return last.replace(file["path"], file["name"]).replace(str(ROOT), "")[:LONGEST]


def _against(answers: Classes, reference: Classes, classes: Classes) -> Figures:
    """Top-1 and top-5, agreement with the reference, and the difference from it, image by image."""
    right, theirs = answers[:, 0] == classes, reference[:, 0] == classes
    same = answers[:, 0] == reference[:, 0]
    return {
        "top1": vars(proportion(int(right.sum()), len(right))),
        "top5": float((answers == classes[:, None]).any(1).mean()),
        "difference": vars(paired_difference(right, theirs)),
        "agreement": vars(proportion(int(same.sum()), len(same))),
    }


def _against_ours(told: dict[str, Figures], rows: Figures, reference: Classes, classes: Classes) -> None:
    """Compare others' files with ours of the same precision and format, image by image."""
    for label, file in told.items():
        ours = told.get(f"{OURS.get(file['precision'])} {file['format']}", file)
        engine = peers_table.engine_of(rows[label])
        if engine is None or peers_table.engine_of(rows[label if ours is file else _label(ours)]) is None:
            continue
        a, b = np.load(_answer_file(file, engine))[:, 0], np.load(_answer_file(ours, "native"))[:, 0]
        truth = reference[:, 0]
        rows[label]["engines"][engine]["over_ours"] = {
            "top1": vars(paired_difference(a == classes, b == classes)),
            "agreement": vars(paired_difference(a == truth, b == truth)),
        }


def _modes() -> dict[str, list[str]]:
    """Return the child's options by mode: one refuses tile registers (AMX), which phones do not have."""
    if has_tiles({"machine": machine()}):
        return {MODE: ["--without-amx"], SERVER: []}
    return {MODE: []}


def latency(peers: Peers) -> None:
    """All files of a model in turns, in the engines that gave answers; a model whose times are known is left out."""
    for case, found in peers.cases():
        if found.get("rounds") == peers.options.rounds and not peers.options.again:
            continue
        rows = found["files"]
        told = {label: file for label, file in peers.files(case).items() if peers.wanted(file["route"])}
        engines = {label: [e for e, r in rows[label]["engines"].items() if "error" not in r] for label in told}
        print(
            f"{short(case.file)}: {sum(map(len, engines.values()))} of files and engines", file=sys.stderr, flush=True
        )
        with tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "files.json"
            listed.write_text(json.dumps(list(told.values())), encoding="utf-8")
            program = [str(peers.python), str(HERE / "peers_latency.py")]
            commands = {
                (engine, threads, mode): [*program, engine, str(threads), str(listed), *options]
                for mode, options in _modes().items()
                for threads in THREADS
                for engine in dict.fromkeys(e for several in engines.values() for e in several)
            }
            times = measured(commands, engines, peers.options.rounds)
        for (label, engine, threads, mode), figures in times.items():
            rows[label]["engines"][engine].setdefault("latency", {}).setdefault(mode, {})[str(threads)] = figures
        found["rounds"] = peers.results["rounds"] = peers.options.rounds
        peers.save()


def table(peers: Peers) -> None:
    """Write the page's generated parts."""
    PAGE.write_text(peers_table.with_tables(PAGE.read_text("utf-8"), peers.results), encoding="utf-8")


STAGES: dict[str, Callable[[Peers], None]] = {
    "setup": setup,
    "files": files,
    "accuracy": accuracy,
    "latency": latency,
    "table": table,
}


def main() -> int:
    """Do the stages that are asked for, one after the other."""
    options = _options()
    if not (options.data / "models" / "float").is_dir() and {"files", "accuracy"} & set(options.stages):
        print(f"skipped: no models in {options.data}", file=sys.stderr)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    peers = Peers(options)
    for stage in options.stages:
        STAGES[stage](peers)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--data", type=lambda text: Path(text).resolve(), default=ROOT.parent / "shared")
    parser.add_argument("--work", type=lambda text: Path(text).resolve(), default=ROOT / ".peers" / "work")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the figures; the page is made from the usual file")
    parser.add_argument("--models", nargs="*", default=[""], help="parts of file names; all without it")
    parser.add_argument("--routes", nargs="*", default=[""], help="beginnings of routes' names; all without it")
    parser.add_argument("--again", action="store_true", help="make and measure what is there already")
    parser.add_argument("--images", type=int, default=200, help="to calibrate on")
    parser.add_argument("--photographs", type=int, default=700, help="of the validation set")
    parser.add_argument("--rounds", type=int, default=9, help="of latency")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
