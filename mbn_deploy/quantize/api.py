"""One calibration, one quantized graph: what int8 TFLite and int8 ONNX are both written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mbn_deploy.export.graph import Floats, Graph
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.lower import absorb_hard_sigmoids, pixel_input
from mbn_deploy.quantize.quantizer import quantize_graph
from mbn_deploy.quantize.ranges import Calibrated, observe
from mbn_deploy.quantize.scheme import QuantizedGraph
from mbn_deploy.runtime.preprocess import normalize


@dataclass(frozen=True, eq=False)
class Quantization:
    """The quantized graph, what its input means, and what is written down about it in the manifest."""

    graph: QuantizedGraph
    preprocess: Preprocess
    facts: dict[str, object]


def quantize(
    graph: Graph, preprocess: Preprocess, calibration: CalibrationSet, progress: Progress = silent
) -> Quantization:
    """Full-integer int8 of the folded `graph`, calibrated on `calibration` (batch 1 graphs only)."""
    pixels = pixel_input(graph, preprocess)
    lowered = absorb_hard_sigmoids(pixels.graph)
    batches = _batches(calibration, preprocess, pixels.preprocess)
    ranges = observe(lowered, batches, len(calibration), progress)
    quantized = quantize_graph(Calibrated(lowered, ranges, {}), pixels.params)
    facts: dict[str, object] = {
        "method": "min-max",
        "granularity": "per-channel",
        "calibration": {"images": len(calibration), "sha256": calibration.sha256},
    }
    return Quantization(quantized, pixels.preprocess, facts)


def _batches(calibration: CalibrationSet, own: Preprocess, pixels: Preprocess) -> Iterator[Floats]:
    """Calibration images one by one, (1, H, W, C), in the domain of the pixel graph."""
    if calibration.pixels is not None:
        for image in calibration.pixels:
            yield normalize(image, pixels)[None]
    elif calibration.inputs is not None:
        mean, std = np.asarray(own.mean, np.float32), np.asarray(own.std, np.float32)
        for values in calibration.inputs:
            yield normalize(np.clip(np.rint(values * std + mean), 0, 255).astype(np.uint8), pixels)[None]
