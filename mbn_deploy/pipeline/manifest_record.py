"""What the manifest says about where a bundle comes from and how good it is: plain JSON values.

Nothing here depends on the time, the machine's name or a path outside the bundle.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.source import Source
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.verify.evaluate import Accuracy, Comparison, Evaluation
from mbn_deploy.verify.statistics import Estimate
from mbn_deploy.version import __version__

PACKAGES = ("numpy", "pillow", "keras", "tensorflow", "tensorflow-cpu", "onnx", "onnxruntime", "ai-edge-litert")
CONFIDENCE = 0.95
DIGITS = 6  # of measured values: sums of floats are not the same to the last bit on every run


def model_source(source: Source) -> dict[str, Any]:
    """Which model the bundle was made from: its weights' hash, and its file's if it was read from one."""
    weights = hashlib.sha256()
    for value in source.model.get_weights():
        weights.update(np.ascontiguousarray(value).tobytes())
    found: dict[str, Any] = {
        "name": str(source.model.name),
        "parameters": int(source.model.count_params()),
        "weights_sha256": weights.hexdigest(),
        "preprocess": asdict(source.keras_preprocess),
    }
    said = {key: value for key, value in asdict(source.description.about).items() if value}
    if said:
        found["about"] = said
    if source.file is not None:
        found["file"] = {"name": source.file.name, "sha256": sha256(read_file(source.file))}
    return found


def tool_versions() -> dict[str, str]:
    """Versions of everything that has a part in the bytes of a bundle."""
    found = {"mbn-deploy": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # one of tensorflow and tensorflow-cpu
            found[package] = metadata.version(package)
    return found


def evaluation_metrics(found: Evaluation, reference: str, geometry: Preprocess) -> dict[str, Any]:
    """Accuracy and comparison of every file, by its name; the reference is the float Keras model.

    Shares are fractions of 1, `kl` is in nats; `low` and `high` bound the 95 % confidence interval.
    """
    metrics: dict[str, Any] = {
        "dataset": found.dataset,
        "images": found.images,
        "labelled": bool(found.accuracy),
        "resize": geometry.resize,
        "confidence": CONFIDENCE,
        "files": {
            name: _accuracy(found.accuracy.get(name)) | _comparison(compared)
            for name, compared in found.comparison.items()
        },
    }
    return metrics | ({"reference": _accuracy(found.accuracy[reference])} if found.accuracy else {})


def _accuracy(accuracy: Accuracy | None) -> dict[str, Any]:
    if accuracy is None:
        return {}
    return {"top1": _estimate(accuracy.top1), "top5": _estimate(accuracy.top5)}


def _comparison(compared: Comparison) -> dict[str, Any]:
    return {
        "agreement": _estimate(compared.agreement),
        "top1_difference": None if compared.top1_difference is None else _estimate(compared.top1_difference),
        "kl": _rounded(compared.kl),
        "confidence_drift": _rounded(compared.confidence_drift),
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {key: _rounded(value) for key, value in asdict(estimate).items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
