"""Accuracy of five real float models, of every file made from them, and how far the files agree with Keras.

    .venv/bin/python benchmarks/accuracy.py [--data ../shared] [--models V2 ...] [--json FILE]

The data folder holds `models/float/`, `imagenet/calibration/` and `imagenet/validation/<synset>/`.
The validation pictures are shown whole (squash), the calibration ones by centre crop. Nothing is
tuned on the validation pictures: every export runs with its defaults.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AGREEMENT = 0.995  # that float files must reach


@dataclass(frozen=True)
class Case:
    """A weights file, the network that it belongs to, and the float top-1 in % that others measured with it."""

    file: str
    network: str
    alpha: float
    top1: float


CASES = (
    Case("mobilenet_v1_0.25_224.h5", "mobilenet_v1", 0.25, 64.00),
    Case("mobilenet_v1_1.0_224.weights.h5", "mobilenet_v1", 1.0, 76.71),
    Case("mobilenet_v2_1.0_224.weights.h5", "mobilenet_v2", 1.0, 77.29),
    Case("mobilenet_v3_small_1.0_224.weights.h5", "mobilenet_v3_small", 1.0, 75.57),
    Case("mobilenet_v3_large_minimalistic_1.0_224.weights.h5", "mobilenet_v3_large_minimalistic", 1.0, 78.00),
)


def main() -> int:
    """Measure, print, and return 1 if a float file falls short."""
    arguments = _arguments()
    results = []
    for case in CASES:
        if any(part in case.file for part in arguments.models):
            results.append(measure(case, arguments.data, arguments.out))
            _show(results[-1])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    failed = [name for result in results for name in _short(result)]
    print(f"\nfloat files below {AGREEMENT:.1%} agreement or with another top-1 than stated: {failed or 'none'}")
    return 1 if failed else 0


def measure(case: Case, data: Path, out: Path | None) -> dict[str, Any]:
    """Export one model with its defaults and every file measured: the manifest's metrics with the case's name."""
    from mbn_deploy.models.api import build
    from mbn_deploy.pipeline.export import export_model

    images = data / "imagenet"
    with tempfile.TemporaryDirectory() as scratch:
        result = export_model(
            build(case.network, alpha=case.alpha, weights=data / "models" / "float" / case.file),
            (out or Path(scratch)) / case.file.split("_224")[0],
            calibrate=images / "calibration",
            evaluate=images / "validation",
            evaluate_resize="squash",
            labels=images / "labels.txt",
            synsets=images / "synsets.txt",
            overwrite=True,
        )
        return {"model": case.file, "stated_top1": case.top1, "seconds": result.seconds, **result.bundle.metrics}


def _short(result: dict[str, Any]) -> list[str]:
    """Float32 files that do not agree with Keras, and Keras itself where it is not what was stated."""
    wrong = [name for name, f in result["files"].items() if "float32" in name and f["agreement"]["value"] < AGREEMENT]
    if abs(100 * result["reference"]["top1"]["value"] - result["stated_top1"]) > 0.15:  # one image of 700
        wrong.append(result["model"])
    return wrong


def _show(result: dict[str, Any]) -> None:
    print(f"\n{result['model']}: {result['images']} images, Keras as stated by others {result['stated_top1']:.2f}")
    print(f"{'file':58} {'top-1 %':>19} {'top-5 %':>8} {'agrees %':>19} {'top-1 difference':>21} {'KL':>8}")
    reference = result["reference"]
    print(f"{'Keras float32':58} {_percent(reference['top1'])} {100 * reference['top5']['value']:8.2f}")
    for name, f in result["files"].items():
        kl = "" if f["kl"] is None else f"{f['kl']:8.4f}"
        print(
            f"{name:58} {_percent(f['top1'])} {100 * f['top5']['value']:8.2f} {_percent(f['agreement'])} "
            f"{_percent(f['top1_difference'], '+'):>21} {kl}",
            flush=True,
        )


def _percent(estimate: dict[str, float], sign: str = "") -> str:
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:{sign}6.2f} ({low:{sign}.1f}, {high:{sign}.1f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--data", type=Path, default=here.parent / "shared")
    parser.add_argument("--models", nargs="*", default=[""], help="parts of file names; all without it")
    parser.add_argument("--out", type=Path, help="keep the bundles below this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
