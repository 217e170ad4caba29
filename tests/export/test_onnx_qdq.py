"""int8 ONNX files: against the int8 TFLite file of the same integers, and what ONNX Runtime makes of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx_graphs import GRAPHS, as_nchw, kinds, run, session
from op_graphs import INPUT, graph_of, op, quantized, rand
from qdq_graphs import INTEGER, as_input, network_graph, optimized, pixels, quantized_network, tflite_scores

from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.graph.quantized import QuantizedGraph, QuantParams


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("activation", ["uint8", "int8"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_agrees_with_tflite(name, activation, dtype):
    made = quantized(GRAPHS[name], rand(*INPUT) * 2)
    feed = pixels(made, rand(*INPUT) * 2)
    data = write_onnx_int8(made, activation_dtype=activation, input_dtype=dtype)
    (got,) = run(data, as_nchw(as_input(made, feed, dtype)))
    step = made.activations[made.graph.output].scale
    # One level: fixed-point and floating-point requantization round a tie differently; h-swish and average pool too.
    assert np.abs(got - as_nchw(tflite_scores(made, feed))).max() <= 1.01 * step


# ReLUs alone are requantizations; ONNX Runtime interpolates in float, since its integers are not rounded.
IN_FLOAT = {"relu", "relu6", "resize"}


@pytest.mark.parametrize("name", [n for n in GRAPHS if n not in IN_FLOAT])
def test_onnx_runtime_finds_only_integers(name, tmp_path):
    made = quantized(GRAPHS[name], rand(*INPUT))
    found = optimized(write_onnx_int8(made), tmp_path / "o.onnx")
    assert found.pop("DequantizeLinear") == 1
    assert set(found) <= INTEGER
    found = optimized(write_onnx_int8(made, activation_dtype="int8", input_dtype="int8"), tmp_path / "s.onnx", True)
    assert found.pop("DequantizeLinear") == 1
    assert set(found) <= INTEGER


def test_a_lone_relu_is_a_requantization():
    assert kinds(write_onnx_int8(quantized(GRAPHS["relu"], rand(*INPUT)))) == {
        "DequantizeLinear": 2,
        "QuantizeLinear": 1,
    }


def test_nothing_stands_in_front_of_raw_pixels():
    made = quantized(GRAPHS["softmax head"], rand(*INPUT))
    for layout, shape, first in (("nchw", [1, 4, 12, 11], "DequantizeLinear"), ("nhwc", list(INPUT), "Transpose")):
        model = onnx.load_from_string(write_onnx_int8(made, layout=layout))
        source = model.graph.input[0]
        assert source.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert [d.dim_value for d in source.type.tensor_type.shape.dim] == shape
        assert [n.op_type for n in model.graph.node if "x" in n.input] == [first]
        assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_nhwc_is_the_same_as_nchw(dtype):
    made = quantized(GRAPHS["gate"], rand(*INPUT))
    feed = as_input(made, pixels(made, rand(*INPUT)), dtype)
    (flat,) = run(write_onnx_int8(made, input_dtype=dtype, layout="nhwc"), feed)
    np.testing.assert_array_equal(flat, run(write_onnx_int8(made, input_dtype=dtype), as_nchw(feed))[0])


def test_weights_are_per_channel_and_biases_have_their_product_of_scales():
    made = quantized(GRAPHS["depthwise"], rand(*INPUT))
    data = write_onnx_int8(made)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in onnx.load_from_string(data).graph.initializer}
    kernel, scales = constants["d/kernel/quantized"], constants["d/kernel/scale"]
    assert (kernel.dtype, kernel.shape, scales.shape) == (np.int8, (8, 1, 5, 5), (8,))
    assert constants["d/bias/quantized"].dtype == np.int32
    np.testing.assert_array_equal(constants["d/bias/scale"], np.float32(made.activations["x"].scale) * scales)


def with_output(made, params):
    return QuantizedGraph(made.graph, made.activations | {made.graph.output: params}, made.weights)


@pytest.mark.parametrize(
    ("activation", "params", "clips"),
    [
        ("relu", QuantParams(0.05, -128), 0),  # saturation at level -128 is the ReLU
        ("relu", QuantParams(0.05, -20), 1),
        ("relu6", QuantParams(float(np.float32(6 / 255)), -128), 0),
        ("relu6", QuantParams(0.02, -128), 0),
        ("relu6", QuantParams(0.05, -128), 1),
        ("relu6", QuantParams(0.05, -20), 1),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_activations_are_saturation_or_a_clip_of_integers(activation, params, clips, dtype, tmp_path):
    base = GRAPHS["conv same"]
    kernel = base.ops[0].kernel * 4
    made = quantized(replace(base, ops=(replace(base.ops[0], kernel=kernel, activation=activation),)), rand(*INPUT) * 2)
    made = with_output(made, params)
    feed = pixels(made, rand(*INPUT) * 2)
    data = write_onnx_int8(made, activation_dtype=dtype)
    assert kinds(data)["Clip"] == clips
    assert kinds(data)["Relu"] == 0
    (got,) = run(data, as_nchw(feed))
    assert got.min() == 0
    assert got.max() <= (6 + params.scale / 2 if activation == "relu6" else np.inf)
    assert np.abs(got - as_nchw(tflite_scores(made, feed))).max() <= 1.01 * params.scale
    assert "Conv" not in optimized(write_onnx_int8(made), tmp_path / "o.onnx")


def test_a_hard_sigmoid_must_be_lowered_before():
    inner = graph_of(op("hard_sigmoid", "gate", "x", shape=INPUT))
    params = QuantParams(1 / 255, -128)
    with pytest.raises(InputError, match="'gate'"):
        write_onnx_int8(QuantizedGraph(inner, {"x": params, "gate": params}, {}))


def test_bytes_are_deterministic_and_metadata_kept():
    made = quantized(GRAPHS["hard_swish"], rand(*INPUT))
    data = write_onnx_int8(made, metadata={"a": "1", "b": "2"})
    assert data == write_onnx_int8(made, metadata={"b": "2", "a": "1"})
    assert session(data).get_modelmeta().custom_metadata_map == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("name", "twins"),
    [
        ("mobilenet_v1", [False]),
        ("mobilenet_v2", [False]),
        ("mobilenet_v3_small", [False, True]),
        ("mobilenet_v3_large_minimalistic", [False]),
    ],
)
def test_networks_are_integers_throughout_and_agree_with_tflite(name, twins, tmp_path):
    float_graph = network_graph(name)
    for twin in twins:
        made, image = quantized_network(float_graph, twin)
        data = write_onnx_int8(made, layout="nhwc")
        found = optimized(data, tmp_path / "o.onnx")
        # One Transpose at the NHWC input; ONNX Runtime moves the network to NHWC itself and takes out or adds some.
        assert found.pop("DequantizeLinear") == 1
        assert set(found) <= INTEGER
        assert found["QLinearConv"] + found["QGemm"] == len(list(made.graph.weighted()))
        assert Counter(kinds(data))["Transpose"] == 1
        feed = pixels(made, image)
        (got,) = run(data, feed)
        step = made.activations[made.graph.output].scale
        assert np.abs(got - tflite_scores(made, feed)).max() <= 2.01 * step
        arm = write_onnx_int8(made, activation_dtype="int8", input_dtype="int8", layout="nhwc")
        assert set(optimized(arm, tmp_path / "arm.onnx", int8_allowed=True)) - {"DequantizeLinear"} <= INTEGER
