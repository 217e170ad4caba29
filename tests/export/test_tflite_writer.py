"""TFLite files against a TensorFlow execution of the same graph, and their structure."""

import numpy as np
import pytest
from graph_reference import run_graph

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import schema
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import ActivationParams
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.ranges import Calibrated, ChannelRange

RNG = np.random.default_rng(0)
INPUT = (1, 12, 11, 4)


def rand(*shape):
    return RNG.normal(0, 0.4, shape).astype(np.float32)


def conv(name, source, kernel, shape, **more):
    return Op("conv", name, (source,), name, kernel=kernel, bias=rand(kernel.shape[-1]), **more), shape


def graph_of(*steps, source=INPUT):
    """A graph of (op, output shape) pairs behind the input `x`."""
    shapes = {"x": source} | {op.output: shape for op, shape in steps}
    return Graph("test", "x", steps[-1][0].output, tuple(op for op, _ in steps), shapes)


def op(kind, name, *sources, shape, **more):
    return Op(kind, name, sources, name, **more), shape


SINGLE = {
    "conv same": graph_of(conv("c", "x", rand(3, 3, 4, 8), (1, 12, 11, 8), pads=(1, 1, 1, 1), activation="relu6")),
    "conv stride": graph_of(
        conv("c", "x", rand(3, 3, 4, 8), (1, 6, 6, 8), stride=(2, 2), pads=(0, 1, 1, 1), activation="relu")
    ),
    "conv torch pads": graph_of(conv("c", "x", rand(3, 3, 4, 8), (1, 6, 6, 8), stride=(2, 2), pads=(1, 0, 1, 1))),
    "conv dilated": graph_of(conv("c", "x", rand(3, 3, 4, 8), (1, 12, 11, 8), dilation=(2, 2), pads=(2, 2, 2, 2))),
    "depthwise": graph_of(
        op("depthwise", "d", "x", shape=(1, 12, 11, 8), kernel=rand(5, 5, 4, 2), bias=rand(8), pads=(2, 2, 2, 2))
    ),
    "dense": graph_of(
        op("reshape", "r", "x", shape=(1, 528)), op("dense", "d", "r", shape=(1, 6), kernel=rand(528, 6), bias=rand(6))
    ),
    "add": graph_of(conv("c", "x", rand(1, 1, 4, 4), INPUT), op("add", "a", "x", "c", shape=INPUT, activation="relu")),
    "gate": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 1, 1, 4), keepdims=True),
        conv("c", "g", rand(1, 1, 4, 4), (1, 1, 1, 4)),
        op("hard_sigmoid", "h", "c", shape=(1, 1, 1, 4)),
        op("multiply", "m", "x", "h", shape=INPUT),
    ),
    "hard_swish": graph_of(op("hard_swish", "h", "x", shape=INPUT)),
    "relu": graph_of(op("relu", "h", "x", shape=INPUT)),
    "relu6": graph_of(op("relu6", "h", "x", shape=INPUT)),
    "sigmoid": graph_of(op("sigmoid", "h", "x", shape=INPUT)),
    "global max": graph_of(op("global_max_pool", "g", "x", shape=(1, 4))),
    "average pool": graph_of(
        op("average_pool", "p", "x", shape=(1, 6, 6, 4), window=(3, 3), stride=(2, 2), pads=(0, 1, 1, 1))
    ),
    "max pool": graph_of(op("max_pool", "p", "x", shape=(1, 6, 5, 4), window=(2, 2), stride=(2, 2))),
    "pad": graph_of(op("pad", "p", "x", shape=(1, 14, 12, 4), pads=(2, 0, 1, 0))),
    "softmax head": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 4)),
        op("dense", "d", "g", shape=(1, 5), kernel=rand(4, 5), bias=rand(5)),
        op("softmax", "s", "d", shape=(1, 5)),
    ),
}


def interpret(data, value):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def operators(data):
    model = schema().ModelT.InitFromPackedBuf(data)
    names = {v: k for k, v in vars(schema().BuiltinOperator).items() if isinstance(v, int)}
    return [names[model.operatorCodes[o.opcodeIndex].builtinCode] for o in model.subgraphs[0].operators]


@pytest.mark.parametrize("name", SINGLE)
def test_float32_equals_the_reference(name):
    graph, x = SINGLE[name], rand(*INPUT) * 4
    got = interpret(write_tflite(graph, "float32"), x)
    np.testing.assert_allclose(got, run_graph(graph, x)[graph.output], atol=2e-5)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("precision", ["float16", "dynamic"])
def test_smaller_precisions_are_near(name, precision):
    graph, x = SINGLE[name], rand(*INPUT) * 4
    expected = run_graph(graph, x)[graph.output]
    got = interpret(write_tflite(graph, precision), x)
    # float16 keeps 11 bits of a weight, int8 weights and activations 7: relative to the largest output.
    allowed = {"float16": 2e-3, "dynamic": 3e-2}[precision]
    assert np.abs(got - expected).max() <= allowed * max(np.abs(expected).max(), 1e-6)


def quantized(graph, x):
    lowered = absorb_hard_sigmoids(graph)
    values = run_graph(lowered, x)
    ranges = {o.output: channel_range(values[o.output]) for o in lowered.ops}
    scale = float(np.float32(np.abs(x).max() / 127))
    return quantize_graph(Calibrated(lowered, ranges, {}), ActivationParams(scale, 0))


def channel_range(values):
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return ChannelRange(flat.min(0), flat.max(0), flat.mean(0), (flat**2).mean(0))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_int8_is_within_quantization_error(name, dtype):
    graph, x = SINGLE[name], rand(*INPUT) * 2
    made = quantized(graph, x)
    source, result = made.activations["x"], made.activations[made.graph.output]
    shift = 128 if dtype == "uint8" else 0
    feed = x if dtype == "float32" else (np.rint(x / source.scale) + shift).clip(shift - 128, shift + 127).astype(dtype)
    got = interpret(write_tflite_int8(made, input_dtype=dtype), feed)
    assert got.dtype == dtype
    real = got if dtype == "float32" else (got.astype(np.int32) - shift - result.zero_point) * result.scale
    expected = run_graph(graph, x)[graph.output]
    # A few steps of the output, or 4 % of its range: rounding of input, weights and in-between tensors adds up.
    assert np.abs(real - expected).max() <= max(3 * result.scale, 0.04 * np.ptp(expected))


@pytest.mark.parametrize("name", SINGLE)
def test_int8_holds_integers_only(name):
    data = write_tflite_int8(quantized(SINGLE[name], rand(*INPUT)), input_dtype="int8")
    model = schema().ModelT.InitFromPackedBuf(data)
    kinds = schema().TensorType
    assert {t.type for t in model.subgraphs[0].tensors} <= {kinds.INT8, kinds.INT32}
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(operators(data))


def test_same_padding_needs_no_pad():
    assert operators(write_tflite(SINGLE["conv stride"], "float32")) == ["CONV_2D"]
    assert operators(write_tflite(SINGLE["conv torch pads"], "float32")) == ["PAD", "CONV_2D"]


def test_bytes_are_deterministic_and_buffers_aligned():
    graph = SINGLE["conv same"]
    data = write_tflite(graph, "float32", metadata={"b": b"2", "a": b"1"})
    assert data == write_tflite(graph, "float32", metadata={"a": b"1", "b": b"2"})
    kernel = np.ascontiguousarray(graph.ops[0].kernel.transpose(3, 0, 1, 2)).tobytes()
    assert data.index(kernel) % 16 == 0


def test_signature_names():
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=write_tflite(SINGLE["softmax head"], "float32"))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["scores"]}}


def test_weights_beyond_float16_are_refused():
    graph = graph_of(conv("big", "x", rand(1, 1, 4, 4) + 1e5, INPUT))
    with pytest.raises(InputError, match="big/kernel"):
        write_tflite(graph, "float16")
