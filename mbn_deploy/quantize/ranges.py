"""Calibration: which values every tensor of a float graph takes on real images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.export.graph import Floats, Graph

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that a tensor took."""

    low: float
    high: float


def observe(graph: Graph, batches: Iterable[Floats], total: int, progress: Progress | None = None) -> dict[str, Range]:
    """Min-max of every tensor over `batches`, arrays of the graph's input shape (N, H, W, C), float32.

    The graph runs in ONNX Runtime, which keeps every tensor that is asked for.
    """
    names = [op.output for op in graph.ops]
    session = _session(graph, names)
    lows, highs = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for done, batch in enumerate(batches, 1):
        source = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        for name, value in zip(names, session.run(names, {graph.input: source}), strict=True):
            lows[name] = min(lows[name], float(value.min()))
            highs[name] = max(highs[name], float(value.max()))
        if progress is not None:
            progress("calibrate", done, total)
    return {name: Range(lows[name], highs[name]) for name in names}


def _session(graph: Graph, outputs: list[str]) -> Any:
    from mbn_deploy.export.onnx_writer import write_onnx

    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "export", "to calibrate") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = write_onnx(graph, metadata={}, extra_outputs=outputs)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
