"""TFLite files against a TensorFlow execution of the same graph, and their structure."""

import numpy as np
import pytest
from graph_reference import run_graph
from op_graphs import FLOATS, INPUT, SINGLE, conv, graph_of, interpret, quantized, rand

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import schema
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8


def operators(data):
    model = schema().ModelT.InitFromPackedBuf(data)
    names = {v: k for k, v in vars(schema().BuiltinOperator).items() if isinstance(v, int)}
    return [names[model.operatorCodes[o.opcodeIndex].builtinCode] for o in model.subgraphs[0].operators]


@pytest.mark.parametrize("name", SINGLE | FLOATS)
def test_float32_equals_the_reference(name):
    graph, x = (SINGLE | FLOATS)[name], rand(*INPUT) * 4
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


@pytest.mark.parametrize("name", [n for n in SINGLE if n != "concat vectors"])  # it brings two scales to one
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
