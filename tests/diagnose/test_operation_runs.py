"""The operations of files, run one by one by the diagnosis, compute what the whole file does."""

import numpy as np
import pytest
from graph_reference import run_graph
from onnx_graphs import ALL, GRAPHS
from op_graphs import INPUT, quantized, rand

from mbn_deploy.diagnose.onnx_graph import read_onnx_graph
from mbn_deploy.diagnose.tflite_graph import read_tflite_graph
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.onnx.writer import write_onnx
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8

# What the tests of real networks do not reach.
ONLY = (
    *("concat", "concat rows", "concat vectors", "maximum", "minimum", "clip", "clip above", "clip from zero"),
    *("leaky relu", "prelu", "prelu of positions", "elu", "gelu", "gelu tanh", "tanh", "softplus", "softsign", "mish"),
    *("conv in groups", "gate of positions", "slice", "slice steps", "slice back", "slice of a vector"),
    *("slice of a vector back", "resize", "resize nearest", "transpose", "transpose channels", "channel max"),
    *("normalize", "normalize vectors", "l2 normalize", "l2 normalize vectors"),
    *("log softmax", "log softmax head", "hard_swish", "softmax over channels", "softmaxes added"),
)


def one_by_one(file_graph, x):
    """Run the operations on real numbers, rounded where the file has integers."""
    values = {file_graph.input: x}
    for op in file_graph.ops:
        assert op.run is not None, op.kind
        result = np.asarray(op.run([values[name] for name in op.inputs]))
        params = file_graph.params.get(op.output)
        values[op.output] = result if params is None else params.round(result)
    return values[file_graph.output]


@pytest.mark.parametrize("name", ONLY)
@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_float_operations(name, file_format):
    graph, x = ALL[name], rand(*INPUT) * 4
    if file_format == "tflite":
        read = read_tflite_graph(write_tflite(graph, "float32"), name)
    else:
        read = read_onnx_graph(write_onnx(graph), name)
    expected = run_graph(graph, x)[graph.output]
    np.testing.assert_allclose(one_by_one(read, x).reshape(expected.shape), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in ONLY if name in GRAPHS])
@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_integer_operations(name, file_format):
    x = rand(*INPUT) * 2
    made = quantized(GRAPHS[name], x)
    params, result = made.activations["x"], made.activations[made.graph.output]
    x = params.round(x)
    if file_format == "tflite":
        read = read_tflite_graph(write_tflite_int8(made, input_dtype="int8"), name)
    else:
        read = read_onnx_graph(write_onnx_int8(made), name)
    expected = run_graph(made.graph, x)[made.graph.output]
    got = one_by_one(read, x).reshape(expected.shape)
    # As the tests of the writers: rounding of weights and of the tensors in between adds up.
    assert np.abs(got - expected).max() <= max(3 * result.scale, 0.04 * np.ptp(expected))
