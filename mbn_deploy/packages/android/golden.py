"""Golden vectors as a phone reads them: scores of pixels, with how far it may be off."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.manifest import ModelFile
from mbn_deploy.packages.android.choice import asset_name
from mbn_deploy.runtime.ranking import Ranker
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.verify.golden import Golden, read_golden

# Scores are float32, and softmax of logits in another order of sums is off by a few of their roundings.
_ROUNDING = 1e-6


def golden_assets(bundle: Bundle, files: Sequence[ModelFile]) -> dict[str, bytes]:
    """By the model's name as an asset with `.golden` behind it; empty for a bundle without golden vectors.

    Big-endian, as Java's DataInputStream reads: count, bytes of pixels, classes (int32 each), tolerance
    (float32); then for each picture its pixels (H, W, C), RGB or grey, and scores (classes,) as float32.
    """
    name = bundle.manifest.golden
    if name is None:
        return {}
    golden = read_golden(read_file(bundle.folder / name), str(bundle.folder / name))
    return {f"{asset_name(e)}.golden": _packed(bundle, golden, e) for e in files if e.path in golden.outputs}


def _packed(bundle: Bundle, golden: Golden, entry: ModelFile) -> bytes:
    outputs = golden.outputs[entry.path]
    scores = Ranker.for_output(entry.output, bundle.manifest.scores, bundle.labels).to_scores(outputs).astype(">f4")
    pixels = golden.pixels[..., ::-1] if entry.preprocess.channels == "bgr" else golden.pixels
    count, classes = scores.shape
    head = struct.pack(">iiif", count, pixels[0].size, classes, _tolerance(bundle, golden, entry))
    pairs = zip(pixels, scores, strict=True)
    return head + b"".join(image.tobytes() + row.tobytes() for image, row in pairs)


def _tolerance(bundle: Bundle, golden: Golden, entry: ModelFile) -> float:
    """In scores. A phone's kernels may be others than the workstation's: then the larger tolerance holds.

    A probability moves by at most 1/4 of what two logits do against each other, so by half of what each does.
    """
    origin = golden.provenance.get(entry.path)
    raw = max(golden.tolerances[entry.path], 0.0 if origin is None else origin.cross_kernel_tolerance)
    real = raw * (entry.output.scale or 1.0 if entry.output.dtype != "float32" else 1.0)
    if bundle.manifest.scores == "logits":
        real /= 2
    return float(np.float32(real * (1 + _ROUNDING) + _ROUNDING))
