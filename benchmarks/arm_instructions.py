"""Guest instructions of one int8 inference on emulated ARM processors: our files against the plain converter's.

    scripts/arm_userland.sh && .venv/bin/python benchmarks/arm_instructions.py [--data ../shared] [--models v2 ...]

Both files come from the same weights and calibration pictures; the converter's is that of
`tf.lite.TFLiteConverter.from_keras_model` in full int8. Counted is one `Interpreter.invoke` of ai-edge-litert
on one thread, under QEMU with the plugin `instructions.c`. Unlike times this repeats: one file, counted at
several places of one process, differed by up to 1,486 (memory lies elsewhere). It is no measure of time: a
processor may take one cycle for an instruction or many. The table goes to
`benchmarks/results/arm_instructions.json` and `.txt`; the exit code is 1 if one of our files needs more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
import arm  # noqa: E402 - the tests' way into the userland

CASES = (
    ("mobilenet_v1", 0.25, "mobilenet_v1_0.25_224.h5"),
    ("mobilenet_v1", 1.0, "mobilenet_v1_1.0_224.weights.h5"),
    ("mobilenet_v2", 1.0, "mobilenet_v2_1.0_224.weights.h5"),
    ("mobilenet_v3_small", 1.0, "mobilenet_v3_small_1.0_224.weights.h5"),
    ("mobilenet_v3_large_minimalistic", 1.0, "mobilenet_v3_large_minimalistic_1.0_224.weights.h5"),
)
RESULTS = ROOT / "benchmarks" / "results" / "arm_instructions"
SAME = 2_000  # two counts of one file, at other places in the process, differ by less: see above
REFUSED = 100_000  # the smallest network takes a hundred times as many
COUNT = 20  # calibration pictures; ranges change no instruction that matters
# Runs on the emulated board. The last of three inferences is counted; two marks without anything between
# tell what a mark itself costs. A file that the interpreter refuses leaves such a pair: a count near 0.
GUEST = """
import gc, os, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
gc.disable()
for _ in range(3):
    os.getpgid(0)
for path in sys.argv[1:]:
    interpreter = Interpreter(path, num_threads=1)
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        print(path, error, file=sys.stderr)
        os.getpgid(0), os.getpgid(0)
        continue
    source = interpreter.get_input_details()[0]
    pixels = np.arange(np.prod(source["shape"])) * 7919 % 256
    interpreter.set_tensor(source["index"], pixels.astype(np.uint8).reshape(source["shape"]))
    interpreter.invoke()
    interpreter.invoke()
    os.getpgid(0)
    interpreter.invoke()
    os.getpgid(0)
"""


def main() -> int:
    """Make the files, count, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--models", nargs="*", default=[""], help="parts of file names; all without it")
    options = parser.parse_args()
    if not arm.READY:
        print(arm.REASON, file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(options, Path(scratch))
    if options.models == [""]:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
        RESULTS.with_suffix(".txt").write_text(table(rows))
    print(table(rows))
    return 1 if any(row["ours"] is None or _more(row) for row in rows) else 0


def measure(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Count the instructions of our file and of the converter's: a row for every model and processor."""
    files = {}
    for name, alpha, weights in CASES:
        if any(part in weights for part in options.models):
            files[f"{name} {alpha}"] = both_files(name, alpha, options.data, weights, scratch)
    site = arm.install(arm.build_wheel(scratch), scratch / "site", "aarch64")
    plugin = scratch / "instructions.so"
    source = Path(__file__).with_name("instructions.c")
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", plugin, source], check=True)
    paths = [path for pair in files.values() for path in pair]
    rows = []
    for cpu in arm.AARCH64:
        counts = count(cpu, site, plugin, paths, scratch / "counts.txt")
        for index, name in enumerate(files):
            rows.append({"cpu": cpu, "model": name, "ours": counts[2 * index], "converter": counts[2 * index + 1]})
    return rows


def count(cpu: str, site: Path, plugin: Path, paths: list[Path], out: Path) -> list[int | None]:
    """Guest instructions of one inference of each file; `None` for one that the interpreter refuses."""
    words = arm.emulator(cpu, site, "-plugin", f"{plugin},out={out}")
    subprocess.run([*words, "-c", GUEST, *map(str, paths)], check=True)
    marks = [int(line) for line in out.read_text().split()]
    mark = marks[2] - marks[1]
    counts = [after - before - mark for before, after in zip(marks[3::2], marks[4::2], strict=True)]
    return [n if n > REFUSED else None for n in counts]


def both_files(name: str, alpha: float, data: Path, weights: str, scratch: Path) -> tuple[Path, Path]:
    """Our int8 file and the plain converter's, with uint8 pixels in."""
    from mbn_deploy.models.api import build
    from mbn_deploy.pipeline.export import export_model
    from mbn_deploy.quantize.calibration import load_calibration
    from mbn_deploy.runtime import Classifier

    model = build(name, alpha=alpha, weights=data / "models" / "float" / weights)
    pictures = data / "imagenet" / "calibration"
    folder = scratch / weights
    export_model(model, folder, formats=["tflite"], precisions=["int8"], calibrate=pictures, calibration_count=COUNT)
    with Classifier.open(folder, precision="int8") as classifier:
        ours, info = Path(classifier.info.path), classifier.info
    pixels = load_calibration(pictures, info.size, info.preprocess, count=COUNT).pixels
    # V3 rescales pixels inside the model; the others take them in [-1, 1].
    inputs = pixels.astype(np.float32) if "v3" in name else pixels.astype(np.float32) / 127.5 - 1
    theirs = scratch / f"{weights}.tflite"
    theirs.write_bytes(converted(model, inputs))
    return ours, theirs


def converted(model: Any, inputs: np.ndarray) -> bytes:
    """Convert `model` with TensorFlow's converter, uint8 in and out, calibrated on `inputs`, float32 (N, H, W, C)."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in inputs)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    data: bytes = converter.convert()
    return data


def _more(row: dict[str, Any]) -> bool:
    return row["converter"] is not None and row["ours"] > row["converter"] + SAME


def _ratio(row: dict[str, Any]) -> float:
    """Ours to theirs; 0 where theirs does not run at all."""
    return float(row["ours"] or 0) / row["converter"] if row["converter"] else 0.0


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as text, in millions of instructions."""
    lines = [f"{'model':38}{'processor':12}{'ours':>10}{'converter':>11}{'ratio':>8}"]
    for row in sorted(rows, key=lambda row: row["model"]):
        ours, theirs = ("refused" if row[k] is None else f"{row[k] / 1e6:.3f}" for k in ("ours", "converter"))
        lines.append(f"{row['model']:38}{row['cpu']:12}{ours:>10}{theirs:>11}{_ratio(row):8.3f}")
    return "guest instructions of one int8 inference, millions\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
