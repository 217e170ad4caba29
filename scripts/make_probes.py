"""Make the tiny models with which `mbn-deploy doctor` tries interpreters: mbn_deploy/runtime/doctor/probes.

    .venv/bin/python scripts/make_probes.py

A MobileNet block with random weights and a head for four classes, in every kind of file that is exported as
int8 or float32. The same weights every time; the bytes depend on the package's version, which stands in them.
"""

import argparse
from pathlib import Path

import numpy as np

from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.onnx.writer import write_onnx
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange

FOLDER = Path(__file__).parents[1] / "mbn_deploy" / "runtime" / "doctor" / "probes"
SIZE, CHANNELS, CLASSES = 16, 8, 4
PIXELS = QuantParams(1 / 128, 0)  # real = (pixel - 128) / 128
RANGES = {"conv": (0, 6), "depthwise": (0, 6), "project": (-8, 8), "add": (-8, 14), "mean": (-4, 8), "logits": (-8, 8)}


def network() -> Graph:
    """Build convolution, depthwise and pointwise convolution with a shortcut, mean, dense and softmax."""
    rng = np.random.Generator(np.random.PCG64(0))

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)

    bias = np.zeros(CHANNELS, np.float32)
    half = SIZE // 2
    ops = [
        Op("conv", "conv", ("image",), "conv", weights(3, 3, 3, CHANNELS), bias, stride=(2, 2), pads=(0, 1, 0, 1),
           activation="relu6"),
        Op("depthwise", "depthwise", ("conv",), "depthwise", 3 * weights(3, 3, CHANNELS, 1), bias, pads=(1, 1, 1, 1),
           activation="relu6"),
        Op("conv", "project", ("depthwise",), "project", weights(1, 1, CHANNELS, CHANNELS), bias),
        Op("add", "add", ("conv", "project"), "add"),
        Op("global_average_pool", "mean", ("add",), "mean"),
        Op("dense", "logits", ("mean",), "logits", weights(CHANNELS, CLASSES), np.zeros(CLASSES, np.float32)),
        Op("softmax", "scores", ("logits",), "scores"),
    ]  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("conv", "depthwise", "project", "add"), (1, half, half, CHANNELS)
    )
    shapes |= {"image": (1, SIZE, SIZE, 3), "mean": (1, CHANNELS), "logits": (1, CLASSES), "scores": (1, CLASSES)}
    return Graph("probe", "image", "scores", tuple(ops), shapes)


def main() -> None:
    """Write the four files."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    graph = network()
    spans = {**RANGES, "scores": (0, 1)}
    ends = {name: [np.full(graph.shapes[name][-1], end, float) for end in span] for name, span in spans.items()}
    ranges = {name: ChannelRange(low, high, (low + high) / 2, (high - low) ** 2) for name, (low, high) in ends.items()}
    integers = quantize_graph(CalibratedGraph(graph, ranges, {}), PIXELS)
    files = {
        "float32.tflite": write_tflite(graph, "float32"),
        "int8.tflite": write_tflite_int8(integers, input_dtype="uint8"),
        "float32.onnx": write_onnx(graph, layout="nhwc"),
        "int8.onnx": write_onnx_int8(integers, input_dtype="uint8", layout="nhwc"),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
