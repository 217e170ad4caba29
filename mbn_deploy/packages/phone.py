"""Parts of packages for phones: golden vectors in a form that phones read, a class name, a check of the input."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import numpy as np

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.decoding import to_answers
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.tensors import to_real
from mbn_deploy.verify.golden import Golden, read_golden

# Scores are float32, and a softmax that sums the logits in another order is off by a few of their roundings.
_ROUNDING = 1e-6
_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]*")


def class_name_of(model: str) -> str:
    """Make the name of a class from any text: `mobilenet_v2_1.0_224` becomes `MobilenetV2Classifier`."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", model) if word and not word.isdigit()]
    joined = "".join(word[0].upper() + word[1:] for word in words)
    return f"{joined if _CLASS.fullmatch(joined) else 'Picture'}Classifier"


def check_takes_one_picture(bundle: Bundle, entry: ModelFile) -> None:
    """Raise `InputError` for a model whose input is not pictures, `UsageError` for one that takes several at once."""
    where, shape = bundle.path(entry), entry.input.shape
    if len(shape) != 4:
        raise InputError(f"{where}: its input of shape {shape} does not take pictures")
    if shape[0] != 1:
        raise UsageError(f"{where}: takes {shape[0]} pictures at once; export with --batch 1")


def golden_files(bundle: Bundle, entries: Sequence[ModelFile]) -> dict[str, bytes]:
    """Return the golden vectors of each model file, by its path; files without any are left out.

    The format is big-endian, as Java's DataInputStream reads: number of pictures, bytes of one picture, number of
    classes (int32 each) and tolerance (float32); then for each picture its pixels (height, width, channels), RGB or
    grey, and its scores (classes,) as float32.
    """
    name = bundle.manifest.golden
    if name is None:
        return {}
    golden = read_golden(read_file(bundle.folder / name), str(bundle.folder / name))
    return {entry.path: _packed(bundle, golden, entry) for entry in entries if entry.path in golden.outputs}


def _packed(bundle: Bundle, golden: Golden, entry: ModelFile) -> bytes:
    outputs = golden.outputs[entry.path]
    scores = to_answers(outputs, entry.output, bundle.manifest.answers).astype(">f4")
    pixels = golden.pixels[..., ::-1] if entry.preprocess.channels == "bgr" else golden.pixels
    count, classes = scores.shape
    head = struct.pack(">iiif", count, pixels[0].size, classes, _tolerance(bundle, golden, entry))
    pairs = zip(pixels, scores, strict=True)
    return head + b"".join(image.tobytes() + row.tobytes() for image, row in pairs)


def _tolerance(bundle: Bundle, golden: Golden, entry: ModelFile) -> float:
    """Return how far scores may be off on a phone, whose kernels may be others than the workstation's.

    A probability moves by at most 1/4 of what two logits move against each other, so by half of what each one moves.
    Values and features may be large: two of them that are one level apart are both rounded to float32.
    """
    origin = golden.provenance.get(entry.path)
    raw = max(golden.tolerances[entry.path], 0.0 if origin is None else origin.cross_kernel_tolerance)
    real = raw * (entry.output.scale or 1.0 if entry.output.dtype != "float32" else 1.0)
    if bundle.manifest.scores == "logits":
        real /= 2
    elif bundle.manifest.scores == "none":
        largest = np.abs(to_real(golden.outputs[entry.path], entry.output)).max(initial=0.0)
        real += float(np.finfo(np.float32).eps * largest)
    return float(np.float32(real * (1 + _ROUNDING) + _ROUNDING))
