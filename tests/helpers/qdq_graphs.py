"""Quantized networks as ONNX and TFLite files of the same integers."""

import numpy as np
from onnx_graphs import kinds
from op_graphs import interpret

from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.tflite.writer import write_tflite_int8
from mbn_deploy.graph.fold import fold
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.models.build import build_model
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import network
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.passes.hard_swish import lower_hard_swishes
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.ranges import CalibratedGraph, observe
from mbn_deploy.runtime.backends.modules import load_interpreter

# What ONNX Runtime may run: integer kernels, moves of bytes, and the border to float scores.
INTEGER = {
    "QLinearConv",
    "QLinearAdd",
    "QLinearMul",
    "QGemm",
    "QLinearGlobalAveragePool",
    "QLinearAveragePool",
    "QLinearSoftmax",
    "QLinearSigmoid",
    "MaxPool",
    "Reshape",
    "Resize",
    "ReduceMax",
    "Slice",
    "Transpose",
    "Pad",
    "Clip",
    "QLinearConcat",
    "QLinearLeakyRelu",
    "Max",
    "Min",
    "Cast",
    "Gather",
}


def optimized(data, path, int8_allowed=False):
    """Return the kinds of nodes that ONNX Runtime runs on this machine, or (`int8_allowed`) as it decides on ARM."""
    onnxruntime = load_interpreter("onnx")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    if int8_allowed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return kinds(path.read_bytes())


def pixels(made, x):
    params = made.activations[made.graph.input]
    return (np.rint(x / params.scale) + params.zero_point + 128).clip(0, 255).astype(np.uint8)


def tflite_scores(made, feed):
    params = made.activations[made.graph.output]
    got = interpret(write_tflite_int8(made, input_dtype="uint8"), feed).astype(np.int32)
    return (got - 128 - params.zero_point) * params.scale


def as_input(made, feed, dtype):
    """Convert `feed` (uint8) to the input type that a file asks for: the same integers in all of them."""
    params = made.activations[made.graph.input]
    wide = feed.astype(np.int32) - 128
    real = ((wide - params.zero_point) * np.float64(params.scale)).astype(np.float32)
    return {"uint8": feed, "int8": wide.astype(np.int8), "float32": real}[dtype]


def network_graph(name, size=48):
    import keras

    keras.utils.set_random_seed(0)
    model = build_model(Spec(network(name), size=size, classes=10))
    rng = np.random.default_rng(0)
    for weight in model.weights:  # statistics that make ranges asymmetric and keep V3 from fading out
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.1, 0.3, weight.shape))
        elif "mean" in weight.path or "beta" in weight.path:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return fold(graph_from_keras(model).graph)


def quantized_network(float_graph, twin):
    lowered = absorb_hard_sigmoids(float_graph)
    floors = {}
    if twin:
        made = lower_hard_swishes(lowered)
        lowered, floors = made.graph, made.floors
    rng = np.random.default_rng(1)
    images = [rng.uniform(-1, 1, lowered.shapes[lowered.input]).astype(np.float32) for _ in range(3)]
    state = CalibratedGraph(lowered, observe(lowered, images, len(images)), floors)
    return quantize_graph(state, QuantParams(float(np.float32(1 / 127.5)), 0)), images[0]
