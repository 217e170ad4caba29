"""The section on what was exported: how images become the input, and how the quantized files were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbn_deploy.manifest import Manifest


@dataclass(frozen=True)
class QuantizationRecord:
    """A recipe with its settings (name, value), and the calibration set that it was used with."""

    name: str
    images: int
    sha256: str
    settings: list[tuple[str, str]]


def image_input(manifest: Manifest) -> str:
    """Describe how images are resized, and which pixel values the Keras model takes."""
    entry = manifest.files[0]
    keras: Mapping[str, Any] | None = manifest.source.get("preprocess")
    preprocess, (height, width, _) = entry.preprocess, entry.picture
    resized = f"{height} × {width} (height × width), {preprocess.resize} ({preprocess.resize_about})"
    if preprocess.filter != "bilinear":
        resized += f", {preprocess.filter}"
    if keras is None:
        return resized
    order = str(keras["channels"]).upper()
    if set(keras["mean"]) == {0.0} and set(keras["std"]) == {1.0}:
        return f"{resized}; Keras takes pixels from 0 to 255, {order}"
    mean, std = (", ".join(f"{v:g}" for v in dict.fromkeys(keras[key])) for key in ("mean", "std"))
    return f"{resized}; Keras takes (pixel − {mean}) / {std}, {order}"


def quantization_records(quantization: Mapping[str, Any]) -> list[QuantizationRecord]:
    """Read the recipes out of the manifest: that of int8 stands at the top, others under the names of precisions."""
    entries = [q for q in (quantization, *quantization.values()) if isinstance(q, dict) and "recipe" in q]
    return [
        QuantizationRecord(
            name=entry["recipe"]["name"],
            images=entry["calibration"]["images"],
            sha256=entry["calibration"]["sha256"],
            settings=_settings(entry["recipe"]),
        )
        for entry in entries
    ]


def _settings(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the settings of a recipe, without its name and those that are off, empty or zero."""
    return [(key.replace("_", " "), _setting(v)) for key, v in recipe.items() if key != "name" and v not in ([], 0)]


def _setting(value: object) -> str:
    if value is True:
        return "yes"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
