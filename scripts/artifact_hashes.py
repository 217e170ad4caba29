"""Hash everything that exports and packages contain and that a refactoring must not change.

    .venv/bin/python scripts/artifact_hashes.py record hashes.json [--checkout DIR] [--data ../shared] [--only WORD ...]
    .venv/bin/python scripts/artifact_hashes.py compare before.json after.json

`record` runs the command line of the checkout (this one, or an older one beside it) and writes the sha256 of every
model file, of every `labels.txt` and of the inputs of the golden vectors: of the demo's three bundles, of one package
of each kind, and, where the real models are beside the checkout, of their exports in all formats and precisions, by
every recipe and per tensor. Only the command line is used, so that one program reads both trees. `compare` prints what
differs and exits 1 if anything does.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared"
MODEL_SUFFIXES = (".tflite", ".onnx")
CALIBRATION_COUNT = 48
ALL_PRECISIONS = "float32,float16,dynamic,int8,int16x8"

# file of weights, network, width multiplier
REAL_MODELS = (
    ("mobilenet_v1_0.25_224.h5", "mobilenet_v1", "0.25"),
    ("mobilenet_v1_1.0_224.weights.h5", "mobilenet_v1", "1.0"),
    ("mobilenet_v2_1.0_224.weights.h5", "mobilenet_v2", "1.0"),
    ("mobilenet_v3_small_1.0_224.weights.h5", "mobilenet_v3_small", "1.0"),
    ("mobilenet_v3_large_minimalistic_1.0_224.weights.h5", "mobilenet_v3_large_minimalistic", "1.0"),
)
VARIANTS = {
    "default": ("--precisions", ALL_PRECISIONS),
    "int8-fast": ("--precisions", "int8", "--recipe", "int8-fast"),
    "int8": ("--precisions", "int8", "--recipe", "int8"),
    "int8-mixed": ("--precisions", "int8", "--recipe", "int8-mixed"),
    "per-tensor": ("--precisions", "int8", "--granularity", "per-tensor"),
}
PACKAGES = {
    "android": ("android",),
    "android-onnx-aar": ("android", "--runtime", "onnx", "--kind", "aar"),
    "android-asset-pack": ("android", "--kind", "asset-pack"),
    "ios": ("ios",),
    "c-array": ("c-array",),
    "pi": ("pi",),
}


def main() -> int:
    """Record hashes or compare two records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("output", type=Path)
    recording.add_argument("--checkout", type=Path, default=ROOT)
    recording.add_argument("--data", type=Path, default=DATA)
    recording.add_argument("--only", nargs="*", default=(), help="parts of the names of what is recorded")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return compare(arguments.before, arguments.after)
    with tempfile.TemporaryDirectory() as scratch:
        hashes = dict(record(arguments.checkout.resolve(), arguments.data, Path(scratch), arguments.only))
    arguments.output.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
    print(f"{len(hashes)} hashes in {arguments.output}")
    return 0


def record(checkout: Path, data: Path, scratch: Path, only: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (name, sha256) of everything; `only` keeps the exports whose name holds one of its words."""

    def wanted(name: str) -> bool:
        return not only or any(word in name for word in only)

    demo = scratch / "demo"
    if wanted("demo") or wanted("package"):
        run(checkout, "demo", "-o", str(demo))
        yield from hashed_folder("demo", demo)
        bundle = next(path.parent for path in sorted(demo.rglob("manifest.json")) if "v1" in str(path.parent))
        for name, arguments in PACKAGES.items():
            target = scratch / f"package-{name}"
            run(checkout, "bundle", arguments[0], str(bundle), "-o", str(target), *arguments[1:])
            yield from hashed_folder(f"package/{name}", target)
    if not data.is_dir():
        print(f"{data} is not there: the real models are left out", file=sys.stderr)
        return
    for file, network, alpha in REAL_MODELS:
        for variant, arguments in VARIANTS.items():
            name = f"{file.split('_224')[0]}/{variant}"
            if wanted(name):
                target = scratch / "real" / name
                weights = data / "models" / "float" / file
                images = data / "imagenet"
                run(
                    checkout,
                    "export",
                    network,
                    "--alpha",
                    alpha,
                    "--weights",
                    str(weights),
                    "-o",
                    str(target),
                    "--calibrate",
                    str(images / "calibration"),
                    "--calibration-count",
                    str(CALIBRATION_COUNT),
                    "--labels",
                    str(images / "labels.txt"),
                    "--no-report",
                    *arguments,
                )
                yield from hashed_folder(name, target)


def run(checkout: Path, *arguments: str) -> None:
    """Run the command line of `checkout` with this Python; raises `CalledProcessError` when it fails."""
    print("mbn-deploy", *arguments, file=sys.stderr, flush=True)
    code = "import sys; from mbn_deploy.cli.main import main; sys.argv[0] = 'mbn-deploy'; main()"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


def hashed_folder(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the hashes of a folder's models, labels and golden inputs, also of those inside zip archives."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield from hashed_file(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def hashed_file(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the hash of a file if it is one that must not change, or those of an archive's members."""
    plain = Path(name).name
    if plain == "golden.npz":
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            yield f"{name}:pixels", hashlib.sha256(np.ascontiguousarray(arrays["pixels"]).tobytes()).hexdigest()
    elif plain.endswith((".aar", ".zip")):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in sorted(archive.namelist()):
                yield from hashed_file(f"{name}!/{member}", archive.read(member))
    elif plain == "package.json" and "model_sha256" in (facts := json.loads(data)):
        yield f"{name}:model", facts["model_sha256"]  # of the array in the C source, whose comments may change
    elif plain == "labels.txt" or plain.endswith(MODEL_SUFFIXES):
        yield name, hashlib.sha256(data).hexdigest()


def compare(before: Path, after: Path) -> int:
    """Print every difference between two records; 1 if there is any."""
    old, new = json.loads(before.read_text()), json.loads(after.read_text())
    lines = [f"missing  {name}" for name in sorted(old.keys() - new.keys())]
    lines += [f"added    {name}" for name in sorted(new.keys() - old.keys())]
    lines += [f"changed  {name}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    print(*lines, f"{len(old.keys() & new.keys())} compared, {len(lines)} differences", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
