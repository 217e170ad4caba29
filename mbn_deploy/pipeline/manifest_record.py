"""The parts of the manifest about a bundle's origin and accuracy, as plain JSON values.

Nothing here depends on the time, the machine's name or a path outside the bundle.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from importlib import metadata
from typing import Any

import numpy as np

from mbn_deploy.hashing import sha256, sha256_of_parts
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.option_fields import options_of
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import Source
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.record import accuracy_record, comparison_record, merged_parts
from mbn_deploy.version import __version__

PACKAGES = ("numpy", "pillow", "keras", "tensorflow", "tensorflow-cpu", "onnx", "onnxruntime", "ai-edge-litert")
CONFIDENCE = 0.95


def model_source(source: Source, options: ExportOptions) -> dict[str, Any]:
    """Return where a bundle comes from: the model, a hash of its weights, and the options that are not defaults."""
    weights = sha256_of_parts(np.ascontiguousarray(value).tobytes() for value in source.model.get_weights())
    record: dict[str, Any] = {
        "name": str(source.model.name),
        "parameters": int(source.model.count_params()),
        "weights_sha256": weights,
        "preprocess": asdict(source.keras_preprocess),
        "resize_from": source.resize_from,
    }
    about = {key: value for key, value in asdict(source.description.about).items() if value}
    if about:
        record["about"] = about
    given = options_record(options)
    if given:
        record["options"] = given
    if source.file is not None:
        record["file"] = {"name": source.file.name, "sha256": sha256(read_file(source.file))}
    return record


def options_record(options: ExportOptions) -> dict[str, Any]:
    """Return the options that differ from their default, without paths and what the rest of the manifest says."""
    return {
        each.name: json_value(getattr(options, each.name))
        for each in options_of(type(options))
        if each.recorded and not each.takes_path and getattr(options, each.name) != each.default
    }


def json_value(value: Any) -> Any:
    """Return the JSON form of an option's value."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that has a part in the bytes of a bundle."""
    versions = {"mbn-deploy": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # one of tensorflow and tensorflow-cpu
            versions[package] = metadata.version(package)
    return versions


def evaluation_metrics(evaluation: Evaluation, reference: str, preprocess: Preprocess) -> dict[str, Any]:
    """Return the accuracy of every file and its comparison with the float Keras model, by the file's name.

    Shares are fractions of 1, `kl` is in nats; `low` and `high` bound the 95 % confidence interval.

    Args:
        evaluation: what was measured.
        reference: the name of the Keras model in it.
        preprocess: how the images were resized.
    """
    measure, accuracy = evaluation.measure, evaluation.accuracy
    metrics: dict[str, Any] = {
        "dataset": evaluation.dataset,
        "images": evaluation.images,
        "labelled": bool(accuracy),
        "measure": measure.main if accuracy else measure.unlabelled_main,
        "resize": preprocess.resize,
        "confidence": CONFIDENCE,
        "files": {name: _file_metrics(evaluation, name) for name in evaluation.comparison},
    }  # fmt: skip
    if measure.answers.meaning in ("labels", "binary"):
        metrics["threshold"] = measure.threshold
    if not accuracy:
        return metrics
    shown = {part["name"] for each in metrics["files"].values() for part in each.get("parts", ())}
    return metrics | {"reference": accuracy_record(accuracy[reference], full=False, also=shown)}


def _file_metrics(evaluation: Evaluation, name: str) -> dict[str, Any]:
    accuracy = accuracy_record(evaluation.accuracy.get(name), full=False)
    compared = comparison_record(evaluation.comparison[name], evaluation.measure.main)
    parts = merged_parts(accuracy.get("parts", ()), compared.get("parts", ()))
    return accuracy | compared | ({"parts": parts} if parts else {})
