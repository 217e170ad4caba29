"""The files that every kind of package takes from a bundle."""

from __future__ import annotations

from mbn_deploy.bundle.open import Bundle


def answer_names(bundle: Bundle) -> tuple[str, ...]:
    """Return the names of the answers: the labels, or numbers where there are none; two of a binary model."""
    return bundle.manifest.answers.names(bundle.labels, bundle.manifest.classes)


def listed_files(bundle: Bundle) -> str:
    """Return the bundle's files for a message: `tflite/int8, onnx/float32`."""
    return ", ".join(f"{entry.format}/{entry.precision}" for entry in bundle.files)
