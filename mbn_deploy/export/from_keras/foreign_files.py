"""Tell what a file or folder is that holds no Keras model, and what to bring in its place."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mbn_deploy.archives import ZIP_ERRORS
from mbn_deploy.models.keras_zip import WEIGHTS_MEMBER

_WHOLE = "load it in Python and save the whole Keras model with model.save('model.keras')"
_TORCH = (
    "it is a PyTorch model; only Keras models are exported, and a PyTorch one becomes an .onnx file with "
    "torch.onnx.export, which `run` and `inspect` take"
)
_CORE_ML = "it is a Core ML model, which has been converted already; bring the Keras model that it was made from"
_SAVED_MODEL = f"it is a SavedModel of TensorFlow, which is a program; {_WHOLE}"
_CHECKPOINT = f"it is part of a checkpoint of TensorFlow, which holds weights only; {_WHOLE}"
_GRAPH = "it is a graph of TensorFlow (frozen .pb), which has no Keras layers; bring the Keras model"
# Endings of names, of files whose contents do not tell.
_BY_ENDING = {
    ".onnx": "it is an ONNX file, which has been exported already",
    ".index": _CHECKPOINT,
    ".ckpt": _CHECKPOINT,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".mlmodel": _CORE_ML,
    ".pb": _GRAPH,
    ".pbtxt": _GRAPH,
    ".safetensors": f"it holds weights only (safetensors); {_WHOLE}",
    ".npz": f"it holds arrays of numpy only; {_WHOLE}",
}
# First bytes, after white space.
_BY_START = {
    b"<": "it is a web page (HTML); download the file itself, not the page that shows it",
    b"\x1f\x8b": "it is a packed archive (gzip); unpack it first",
    b"Rar!": "it is a packed archive (rar); unpack it first",
    b"7z\xbc\xaf": "it is a packed archive (7z); unpack it first",
}
# Members by which other archives are known.
_BY_MEMBER = {
    "data.pkl": _TORCH,
    "AndroidManifest.xml": "it is an Android app",
    "META-INF/MANIFEST.MF": "it is a Java archive",
    "[Content_Types].xml": "it is an Office document",
    "config.json": "it is an archive with a model in a folder of it; unpack it first",
}


def kind_of_folder(path: Path) -> str:
    """Say in brackets what a folder is, if it is a model of another kind; empty for any other."""
    if (path / "saved_model.pb").exists():
        return " (a SavedModel, which is a program; save the Keras model as .keras)"
    if path.suffix == ".mlpackage":
        return " (a Core ML model, which has been converted already; bring the Keras model that it was made from)"
    if (path / "keras_metadata.pb").exists() or (path / "variables").exists():
        return " (part of a SavedModel, which is a program; save the Keras model as .keras)"
    if (path / "checkpoint").exists():
        return " (with a checkpoint, which holds weights only; save the whole Keras model as .keras)"
    if (path / "config.json").exists() and (path / "metadata.json").exists():
        return " (an unpacked .keras archive; bring the archive itself)"
    return ""


def kind_of_archive(path: Path) -> str | None:
    """Say what a zip archive is that is no .keras file; None for one that is, or that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (*ZIP_ERRORS, OSError):
        return None
    if "config.json" in names:
        return None
    for member, kind in _BY_MEMBER.items():
        if any(name == member or name.endswith(f"/{member}") for name in names):
            return kind
    models = [name for name in names if name.endswith((".keras", ".h5")) and name != WEIGHTS_MEMBER]
    return f"it is a zip archive with {models[0]!r} in it; unpack it first" if models else None


def kind_of_file(path: Path, start: bytes) -> str:
    """Say what a file that is neither a zip archive nor HDF5 seems to be, by its first bytes and its name."""
    return _by_start(start) or _by_name(path) or _by_content(start)


def _by_start(start: bytes) -> str | None:
    if not start:
        return "it is empty"
    if start[4:8] == b"TFL3":
        return "it is a TFLite file, which has been exported already"
    return next((kind for first, kind in _BY_START.items() if start.lstrip().startswith(first)), None)


def _by_name(path: Path) -> str | None:
    if path.name == "saved_model.pb":
        return _SAVED_MODEL
    if ".data-0" in path.name or path.name == "checkpoint":
        return _CHECKPOINT
    return _BY_ENDING.get(path.suffix.lower())


def _by_content(start: bytes) -> str:
    if start[:1] == b"\x80" and len(start) > 1 and start[1] <= 5:
        return "it is a Python pickle, which is never loaded, since a pickle can run any code"
    if start.lstrip()[:1] == b"{":
        return _kind_of_json(start)
    if start.isascii() and all(byte >= 32 or byte in b"\t\n\f\r" for byte in start):
        return (
            f"it is text that begins with {start[:16].decode()!r}; a model file is expected, not the code that makes it"
        )
    return f"it begins with {start[:8]!r}, neither a zip archive nor HDF5"


def _kind_of_json(start: bytes) -> str:
    if b"modelTopology" in start or b"layers-model" in start or b"graph-model" in start:
        return "it is a model of TensorFlow.js, which has been converted already; bring the Keras model"
    if b"class_name" in start or b"keras" in start:
        return f"it is the configuration of a Keras model without its weights; {_WHOLE}"
    return "it is JSON; a model file is expected"
