"""The files that every kind of package takes from a bundle."""

from __future__ import annotations

from mbn_deploy.bundle.open import Bundle


def class_names(bundle: Bundle) -> tuple[str, ...]:
    """Return the bundle's labels; without labels the index of each class is its name."""
    return bundle.labels or tuple(map(str, range(bundle.manifest.classes)))


def listed_files(bundle: Bundle) -> str:
    """Return the bundle's files for a message: `tflite/int8, onnx/float32`."""
    return ", ".join(f"{entry.format}/{entry.precision}" for entry in bundle.files)
