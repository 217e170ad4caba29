"""The real models: node counts, agreement with Keras, integers throughout."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_graphs import as_nchw, run
from qdq_graphs import INTEGER, as_input, optimized, pixels, quantized_network, tflite_scores

from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.keras_graph import InputAffine
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.onnx.writer import write_onnx
from mbn_deploy.graph.fold import fold
from mbn_deploy.models.build import build_model
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import network

FLOAT = Path(__file__).parents[3] / "shared" / "models" / "float"
# Spec, weights file, most nodes of the float file.
MODELS = [
    ("mobilenet_v1", 0.25, "mobilenet_v1_0.25_224.h5", 58),
    ("mobilenet_v1", 1.0, "mobilenet_v1_1.0_224.weights.h5", 58),
    ("mobilenet_v2", 1.0, "mobilenet_v2_1.0_224.weights.h5", 101),
    ("mobilenet_v3_small", 1.0, "mobilenet_v3_small_1.0_224.weights.h5", 125),
    ("mobilenet_v3_large_minimalistic", 1.0, "mobilenet_v3_large_minimalistic_1.0_224.weights.h5", 93),
]

pytestmark = [pytest.mark.shared, pytest.mark.skipif(not FLOAT.is_dir(), reason="no ../shared/models/float")]


@pytest.mark.parametrize(("name", "alpha", "weights", "nodes"), MODELS)
def test_real_models(name, alpha, weights, nodes, tmp_path):
    model = build_model(Spec(network(name), alpha=alpha))
    model.load_weights(FLOAT / weights)
    made = graph_from_keras(model)
    graph = fold(made.graph)
    data = write_onnx(graph)
    found = onnx.load_from_string(data).graph.node
    kinds = {node.op_type for node in found}
    assert len(found) <= nodes
    assert not kinds & {"Transpose", "Pad", "BatchNormalization", "Identity"}
    x = np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    affine = made.input_affine or InputAffine(np.ones(3), np.zeros(3), takes_pixels=False)
    expected = model(((x - affine.offset) / affine.scale).astype(np.float32)).numpy()
    np.testing.assert_allclose(run(data, as_nchw(x))[0], expected, atol=1e-5)

    integers, image = quantized_network(graph, twin=True)
    data = write_onnx_int8(integers)
    assert set(optimized(data, tmp_path / "o.onnx")) - {"DequantizeLinear"} <= INTEGER
    feed = pixels(integers, image)
    (got,) = run(data, as_nchw(as_input(integers, feed, "uint8")))
    # Two levels of the logits, as softmax shows them (its slope is at most 1/4, two logits may part by four levels),
    # and a level of its own output. A rounding that differs in one early layer reaches the end as a level or two.
    logits = integers.activations[integers.graph.ops[-1].inputs[0]].scale
    expected = tflite_scores(integers, feed)
    assert np.abs(got - expected).max() <= logits + 1 / 256
    assert got.argmax() == expected.argmax()
