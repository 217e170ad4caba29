"""int8 of five real models: ours and the plain converters', on the same calibration and validation photographs.

    .venv/bin/python benchmarks/quantization.py [--data ../shared] [--models v2 ...] [--parts files ...]
        [--recipes int8 ...] [--images 200] [--json benchmarks/results/quantization.json]
        [--checks-only]

files       accuracy of float32, the plain converters and each recipe, in both formats; what XNNPACK takes
latency     one inference on one thread, every file beside float32; as the machine is, and with --without-amx
            also as if it had no tile registers (quantization_latency.py says why)
per-tensor  one scale for all weights of a layer, ours and theirs
scrambled   the same function with channels of linear pairs multiplied by 1/32 to 32 (tests/helpers/scramble.py)
time        seconds of conditioning and calibration with 50, 100 and --images images

The plain converters: TensorFlow's `from_keras_model`, full integer; ONNX Runtime's `quantize_static`, per-channel
QDQ U8S8, on our float file; beside our int16x8, TensorFlow's. All with min-max over the same images. A file that
XNNPACK refuses is run by the interpreter's own kernels. Intervals are 95 %; differences are paired. Nothing is
tuned on the validation photographs. Figures of the JSON file that are not measured again stay. The exit code is 1
if a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy import CASES
from quantization_files import KNOWN, PER_TENSOR, SCRAMBLED, TITLES, Bench, delegate, recipes, runner
from quantization_report import checks, show

from mbn_deploy.arrays import Pixels
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.pipeline.manifest_record import tool_versions
from mbn_deploy.quantize.channel_groups import channel_groups
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import FAST, INT8, INT16
from mbn_deploy.verify.evaluate import Predictor, evaluate
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.scores import top_classes

REFERENCE = "float32 TFLite"
IMAGE_COUNTS = (50, 100)  # and --images
# What --recipes is without the option: more rungs of the ladder are for those who ask.
DEFAULT_RECIPES = ["int8-fast", "int8", "int8-twin", "int8-mixed"]
HERE = Path(__file__).resolve().parent

Figures = dict[str, Any]


def main() -> int:
    """Measure what is asked for, print the table and which bounds hold."""
    arguments = _arguments()
    if not (arguments.data / "models" / "float").is_dir():
        print(f"skipped: no models in {arguments.data}", file=sys.stderr)
        return 0
    warnings.filterwarnings("ignore", category=UserWarning)
    results = json.loads(arguments.json.read_text("utf-8")) if _exists(arguments.json) else {"models": {}}
    results["machine"] = machine() | {"calibration_images": arguments.images}
    for case in CASES if not arguments.checks_only else ():
        if any(part in case.file for part in arguments.models):
            found = results["models"].setdefault(case.file, {})
            for part in arguments.parts:
                print(f"measuring {case.file}: {part}", file=sys.stderr, flush=True)
                bench = _bench(arguments, case.file)
                found[part] = _merged(found.get(part), PARTS[part](bench, arguments))
                if arguments.json is not None:
                    arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, found in results["models"].items():
        show(name, found)
    verdicts = checks(results["models"])
    print("\n" + "\n".join(f"{'holds ' if holds else 'BROKEN'} {text}" for holds, text in verdicts))
    return 0 if all(holds for holds, _ in verdicts) else 1


_BENCHES: dict[str, Bench] = {}


def _bench(arguments: argparse.Namespace, file: str) -> Bench:
    """Return the model's bench, and drop the one before it: models are large."""
    if file not in _BENCHES:
        _BENCHES.clear()
        case = next(case for case in CASES if case.file == file)
        _BENCHES[file] = Bench(case, arguments.data, arguments.images)
    return _BENCHES[file]


def _merged(old: Figures | None, new: Figures) -> Figures:
    """Merge the new figures into those that were not measured again."""
    if old is None:
        return new
    both = old | new
    return {
        k: _merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v for k, v in both.items()
    }


def machine() -> Figures:
    """Return what the figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "instructions": [f for f in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if f in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "versions": tool_versions(),
    }


def _wanted_files(bench: Bench, names: list[str]) -> dict[str, EncodedModel]:
    files = {REFERENCE: bench.float_file("tflite"), "float32 ONNX": bench.float_file("onnx"), **bench.plain()}
    for recipe in recipes(names):
        if bench.swishes or (recipe.hard_swish == INT8.hard_swish and recipe != FAST) or recipe.mixed:
            files |= bench.ours(recipe)
    # The plain converter has no int16x8 of h-swish: it refuses the model.
    return files | (bench.plain_wide() if INT16.name in names and not bench.swishes else {})


def measure_files(bench: Bench, arguments: argparse.Namespace) -> Figures:
    """Accuracy of everything, and what each recipe is."""
    files = _wanted_files(bench, arguments.recipes)
    found = measured(bench, files)
    return found | {"seconds": dict(bench.seconds), "recipes": dict(bench.facts)}


def measure_per_tensor(bench: Bench, arguments: argparse.Namespace) -> Figures:
    """Ours and theirs with one scale a layer."""
    _ = arguments
    files = {REFERENCE: bench.float_file("tflite"), **bench.plain(per_tensor=True), **bench.ours(PER_TENSOR)}
    return measured(bench, files)


def measure_scrambled(bench: Bench, arguments: argparse.Namespace) -> Figures:
    """int8 of the scrambled model beside that of the unscrambled one, against the same float file."""
    _ = arguments
    if not channel_groups(bench.source.graph):
        return {"skipped": "every channel is bounded by 6, there is nothing to scramble"}
    made = bench.ours(INT8) | bench.ours(INT8, scrambled=True)
    return measured(bench, {REFERENCE: bench.float_file("tflite")} | made | bench.plain_scrambled())


def measure_time(bench: Bench, arguments: argparse.Namespace) -> Figures:
    """Seconds of `quantize` by number of images; images are loaded before."""
    found = {}
    for count in sorted({*IMAGE_COUNTS, arguments.images}):
        calibration = bench.calibrating(count)
        start = perf_counter()
        quantize(bench.source.graph, bench.source.description.preprocess, calibration, INT8)
        found[str(count)] = perf_counter() - start
    return {"quantize": found}


def measure_latency(bench: Bench, arguments: argparse.Namespace) -> Figures:
    """Milliseconds by label, in children, since a file may take its process with it."""
    files = _wanted_files(bench, arguments.recipes)
    refused = {label: delegate(f)["error"] for label, f in files.items() if f.format == "tflite"}
    opened = {label: f for label, f in files.items() if refused.get(label) is None}
    modes = {"as it is": [], **({"without AMX": ["--without-amx"]} if arguments.without_amx else {})}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for at, (label, file) in enumerate(opened.items()):
            paths[label] = Path(folder) / f"{at}.{file.format}"
            paths[label].write_bytes(file.data)
        program = [sys.executable, str(HERE / "quantization_latency.py"), *map(str, paths.values())]
        found = {}
        for mode, options in modes.items():
            done = subprocess.run([*program, *options], capture_output=True, text=True, check=True)
            times = json.loads(done.stdout)
            found[mode] = {label: times[path.name] for label, path in paths.items()}
    return found


PARTS: dict[str, Callable[[Bench, argparse.Namespace], Figures]] = {
    "files": measure_files,
    "latency": measure_latency,
    "per-tensor": measure_per_tensor,
    SCRAMBLED: measure_scrambled,
    "time": measure_time,
}


def measured(bench: Bench, files: Mapping[str, EncodedModel]) -> Figures:
    """Accuracy, delegate and size by label; agreement of the two formats of each kind."""
    delegates = {label: delegate(file) for label, file in files.items() if file.format == "tflite"}
    first: dict[str, list[npt.NDArray[np.int64]]] = {label: [] for label in files}

    def predictor(label: str, file: EncodedModel) -> Predictor:
        run = runner(file, refused=delegates.get(label, {}).get("error") is not None)

        def predict(pixels: Pixels) -> npt.NDArray[np.float32]:
            scores = run(pixels)
            first[label].append(top_classes(scores, 1)[:, 0])
            return scores

        return predict

    found = evaluate(
        {label: predictor(label, file) for label, file in files.items()},
        bench.dataset,
        bench.source.size,
        bench.squashed,
        measure_for(bench.source.description.answers, bench.dataset.names, len(bench.dataset)),
        reference=REFERENCE,
    )
    rows = {label: _row(found, label) | {"bytes": len(files[label].data)} for label in files}
    for label, report in delegates.items():
        rows[label]["delegate"] = report
    answers = {label: np.concatenate(parts) for label, parts in first.items()}
    kinds = [label.removesuffix(TITLES["tflite"]) for label in files if label.endswith(TITLES["tflite"])]
    both = {kind.strip(): [answers.get(kind + title) for title in TITLES.values()] for kind in kinds}
    agree = {k: float((a == b).mean()) for k, (a, b) in both.items() if a is not None and b is not None}
    return {"images": found.images, "rows": rows, "formats_agree": agree}


def _row(found: Any, label: str) -> Figures:
    figures = found.accuracy[label].figures
    row: Figures = {"top1": vars(figures["top1"]), "top5": figures["top5"].value}
    if label in found.comparison:
        compared = found.comparison[label]
        row |= {"difference": vars(compared.difference), "agreement": vars(compared.agreement), **compared.more}
    return row


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared")
    parser.add_argument("--models", nargs="*", default=[""], help="parts of file names; all without it")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--recipes", nargs="*", choices=KNOWN, default=DEFAULT_RECIPES)
    parser.add_argument("--images", type=int, default=200, help="to calibrate on")
    parser.add_argument("--without-amx", action="store_true", help="measure latency in both ways")
    parser.add_argument("--json", type=Path, help="read and write the figures here")
    parser.add_argument("--checks-only", action="store_true", help="measure nothing, show what the JSON file has")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
