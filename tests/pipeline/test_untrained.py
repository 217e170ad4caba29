"""Networks before training: `--weights none`, often a stranger's first try. Values shrink in them to 1e-12."""

import keras
import numpy as np
import pytest

from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.models.api import build
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.quantize.integers import LEAST_LOGIT_STEP, quantize_graph
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange


@pytest.mark.parametrize(
    ("name", "alpha", "size"),
    [
        ("mobilenet_v2", 0.35, 64),
        pytest.param("mobilenet_v1", 0.25, 64, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", 1.0, 64, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_large_minimalistic", 1.0, 64, marks=pytest.mark.slow),
    ],
)
def test_untrained_networks_become_int8(name, alpha, size, digits, tmp_path):
    keras.utils.set_random_seed(0)
    model = build(name, alpha=alpha, size=size, classes=10, weights=None)
    made = export_model(
        model, tmp_path / "dist", precisions=["float32", "int8"], calibrate=digits / "calibration",
        calibration_count=16, report=False,
    ).bundle  # fmt: skip
    assert {(file.format, file.precision) for file in made.files} == {
        ("tflite", "float32"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8"),
    }  # fmt: skip


def quantized(high, reader):
    """A convolution with ReLU6 that reaches `high`, and what reads it."""
    kernel = np.full((1, 1, 2, 2), high, np.float32)
    ops = (
        Op("conv", "c", ("x",), "c", kernel=kernel, bias=np.zeros(2, np.float32), activation="relu6"),
        Op(reader, "s", ("c",), "s"),
    )
    reached = {"x": 1.0, "c": high, "s": 1.0}
    seen = {name: ChannelRange(np.zeros(2), *np.full((3, 2), most)) for name, most in reached.items()}
    graph = Graph("net", "x", "s", ops, dict.fromkeys("xcs", (1, 1, 1, 2)))
    return quantize_graph(CalibratedGraph(graph, seen, {}), QuantParams(1 / 255, -128))


@pytest.mark.parametrize(("high", "activation"), [(6.0, "relu6"), (1e-6, "relu6"), (1e-8, "relu")])
def test_a_bound_that_kernels_cannot_count_is_left_out(high, activation):
    made = quantized(high, "sigmoid")
    assert made.graph.ops[0].activation == activation
    assert made.activations["c"].scale == np.float32(high / 255)


@pytest.mark.parametrize("high", [6.0, 1e-3, 1e-12])
def test_logits_have_steps_that_softmax_accepts(high):
    scale = quantized(high, "softmax").activations["c"].scale
    assert scale * 2.0**26 > 1
    assert scale == max(np.float32(high / 255), LEAST_LOGIT_STEP)
