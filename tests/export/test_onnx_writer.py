"""ONNX files against a TensorFlow execution of the same graph, and their structure."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from graph_reference import run_graph
from onnx_graphs import ALL, GRAPHS, as_nchw, kinds, run, session
from op_graphs import INPUT, graph_of, op, rand

from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.builder import IR_VERSION, OPSET
from mbn_deploy.export.onnx.writer import write_onnx


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_equals_the_reference(name, layout):
    graph, x = ALL[name], rand(*INPUT) * 4
    (got,) = run(write_onnx(graph, layout=layout), x if layout == "nhwc" else as_nchw(x))
    np.testing.assert_allclose(got, as_nchw(run_graph(graph, x)[graph.output]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ALL)
def test_every_tensor_can_be_asked_for(name):
    graph, x = ALL[name], rand(*INPUT) * 4
    names = [o.output for o in graph.ops]
    expected = run_graph(graph, x)
    got = run(write_onnx(graph, extra_outputs=names), as_nchw(x), names)
    for tensor, value in zip(names, got, strict=True):
        np.testing.assert_allclose(value, as_nchw(expected[tensor]), rtol=1e-5, atol=2e-5, err_msg=tensor)


def test_batch_is_static_and_any():
    graph, x = GRAPHS["flatten, dense"], rand(3, *INPUT[1:])
    wide = replace(graph, shapes={name: (3, *shape[1:]) for name, shape in graph.shapes.items()})
    data = write_onnx(wide)
    assert session(data).get_inputs()[0].shape == [3, 4, 12, 11]
    np.testing.assert_allclose(run(data, as_nchw(x))[0], run_graph(wide, x)[graph.output], rtol=1e-5, atol=2e-5)


def test_flattening_into_a_dense_layer_needs_no_transpose():
    assert kinds(write_onnx(GRAPHS["flatten, dense"])) == {"Conv": 1, "AveragePool": 1, "Reshape": 1, "Gemm": 1}
    assert kinds(write_onnx(GRAPHS["flatten, dense"], layout="nhwc"))["Transpose"] == 1
    # A sigmoid hands the order of its values on, so here they have to be moved.
    assert kinds(write_onnx(GRAPHS["flatten, sigmoid"]))["Transpose"] == 1


def test_activations_and_padding_take_the_nodes_that_runtimes_fuse():
    assert kinds(write_onnx(GRAPHS["conv stride torch"])) == {"Conv": 1, "Clip": 1}
    assert kinds(write_onnx(GRAPHS["gate"])) == {"GlobalAveragePool": 1, "Conv": 1, "HardSigmoid": 1, "Mul": 1}
    assert kinds(write_onnx(GRAPHS["V1 head"])) == {"GlobalAveragePool": 1, "Conv": 1, "Reshape": 1, "Softmax": 1}


def test_names_and_versions():
    model = onnx.load_from_string(write_onnx(GRAPHS["softmax head"], metadata={"b": "2", "a": "1"}))
    assert [node.name for node in model.graph.node] == ["g", "g/flatten", "d", "s"]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("x", "s")
    assert [(p.key, p.value) for p in model.metadata_props] == [("a", "1"), ("b", "2")]
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (IR_VERSION, [("", OPSET)])
    assert model.producer_name == "mbn-deploy"


def test_bytes_are_deterministic():
    graph = GRAPHS["gate"]
    assert write_onnx(graph, metadata={"a": "1", "b": "2"}) == write_onnx(graph, metadata={"b": "2", "a": "1"})


def test_an_unfolded_op_is_named():
    graph = graph_of(op("affine", "norm", "x", shape=INPUT, scale=np.ones(4), offset=np.zeros(4)))
    with pytest.raises(InputError, match=r"'norm'.*'affine'"):
        write_onnx(graph)


def test_a_file_that_onnx_refuses_is_an_input_error():
    graph = graph_of(op("add", "a", "x", "x", shape=(1, 12, 11, 5)))
    with pytest.raises(InputError, match="'test'"):
        write_onnx(graph)
