"""Tiny classifiers for tests of the runtime: pictures of 16 x 12, 5 classes, real files of every kind."""

import json
from functools import cache

import numpy as np

from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.onnx.writer import write_onnx
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.manifest import DESCRIPTION_KEY, Description, Manifest, ModelFile, Preprocess
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange
from mbn_deploy.runtime.backends import open_backend

SIZE, CLASSES = (16, 12), 5
LABELS = ("ant", "bee", "cat", "dog", "eel")
TF = Preprocess(mean=(127.5,) * 3, std=(127.5,) * 3, resize="squash")
# Input of the int8 files: real = (pixel - 128) / 128, so that pixels are the uint8 tensor.
PIXELS = Preprocess(mean=(128.0,) * 3, std=(128.0,) * 3, resize="squash")
_PARAMS = QuantParams(1 / 128, 0)


@cache
def graph(head="softmax", batch=1, size=SIZE, outputs=CLASSES):
    rng = np.random.default_rng(3)
    kernel = rng.normal(0, 0.4, (3, 3, 3, 8)).astype(np.float32)
    weights = rng.normal(0, 1.5, (8, outputs)).astype(np.float32)
    half = (size[0] // 2, size[1] // 2)
    shapes = {"x": (batch, *size, 3), "c": (batch, *half, 8), "g": (batch, 8), "d": (batch, outputs)}
    pads = (0, 1, 0, 1)
    ops = [
        Op("conv", "c", ("x",), "c", kernel, np.zeros(8, np.float32), stride=(2, 2), pads=pads, activation="relu6"),
        Op("global_average_pool", "g", ("c",), "g"),
        Op("dense", "d", ("g",), "d", weights, np.zeros(outputs, np.float32)),
    ]
    if head != "logits":
        ops.append(Op(head, "s", ("d",), "s"))
        shapes["s"] = (batch, outputs)
    return Graph("tiny", "x", ops[-1].output, tuple(ops), shapes)


@cache
def quantized(head="softmax"):
    made = graph(head)
    ranges = {"c": (0, 6), "g": (0, 6), "d": (-12, 12), "s": (0, 1)}
    spans = {op.output: [np.full(made.shapes[op.output][-1], v, float) for v in ranges[op.output]] for op in made.ops}
    found = {name: ChannelRange(low, high, (low + high) / 2, (high - low) ** 2) for name, (low, high) in spans.items()}
    return quantize_graph(CalibratedGraph(made, found, {}), _PARAMS)


def description(precision, preprocess, scores="softmax", layout="nhwc", labels=LABELS):
    return Description("tiny", precision, scores, preprocess, layout, labels)


@cache
def float_tflite(scores="softmax", batch=1, labels=LABELS):
    text = description("float32", TF, scores, labels=labels).to_json()
    return write_tflite(graph(scores, batch), "float32", metadata={DESCRIPTION_KEY: text.encode()})


@cache
def lone_file(kind="tflite", head="logits", outputs=CLASSES, meaning=None, labels=None):
    """Return a float file; it describes itself if it is given a meaning."""
    metadata = {}
    if meaning is not None:
        scores = "none" if meaning in ("values", "embedding") else head
        metadata[DESCRIPTION_KEY] = Description("tiny", "float32", scores, TF, "nhwc", labels, meaning).to_json()
    if kind == "onnx":
        return write_onnx(graph(head, outputs=outputs), metadata=metadata, layout="nhwc")
    encoded = {key: value.encode() for key, value in metadata.items()}
    return write_tflite(graph(head, outputs=outputs), "float32", metadata=encoded)


@cache
def int8_tflite(input_dtype="uint8", *, described=True):
    text = description("int8", PIXELS).to_json()
    metadata = {DESCRIPTION_KEY: text.encode()} if described else None
    return write_tflite_int8(quantized(), input_dtype=input_dtype, metadata=metadata)


@cache
def float_onnx(layout="nchw"):
    text = description("float32", TF, layout=layout).to_json()
    return write_onnx(graph(), metadata={DESCRIPTION_KEY: text}, layout=layout)


@cache
def int8_onnx(input_dtype="uint8", layout="nhwc"):
    text = description("int8", PIXELS, layout=layout).to_json()
    return write_onnx_int8(quantized(), input_dtype=input_dtype, layout=layout, metadata={DESCRIPTION_KEY: text})


def pictures(count=20, seed=0):
    """Return smooth random pixels (N, H, W, 3), each picture of another colour."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (count, 1, 1, 3)) + rng.normal(0, 30, (count, *SIZE, 3))
    return base.clip(0, 255).astype(np.uint8)


def write_bundle(folder, files):
    """Write a bundle of (name, format, precision, bytes, preprocess, layout) and return its manifest."""
    import hashlib

    folder.mkdir()
    entries = []
    for name, kind, precision, data, preprocess, layout in files:
        (folder / name).write_bytes(data)
        backend = open_backend(data, kind, threads=1)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(
            ModelFile(name, kind, precision, digest, len(data), backend.input, backend.output, preprocess, layout)
        )
    text = ("\n".join(LABELS) + "\n").encode()
    (folder / "labels.txt").write_bytes(text)
    manifest = Manifest("tiny", CLASSES, "softmax", tuple(entries), "labels.txt", hashlib.sha256(text).hexdigest())
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
