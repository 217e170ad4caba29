"""Networks of activations and merges: quantized by the whole pass, written to both formats, compared with float."""

from functools import cache

import numpy as np
import pytest
from graph_reference import run_graph
from onnx_graphs import as_nchw, run
from op_graphs import interpret
from quantize_graphs import PLAIN_PREPROCESS, Net, assert_same, calibrated

from mbn_deploy.errors import InputError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.tflite.writer import write_tflite_int8
from mbn_deploy.graph.quantized import FLOAT_ONLY, NO_INT16
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.channel_groups import channel_groups
from mbn_deploy.quantize.passes.absorb import absorb
from mbn_deploy.quantize.passes.equalize import equalize
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8, INT16, PLAIN
from mbn_deploy.runtime.preprocess import normalize

PIXELS = np.random.default_rng(1).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
FUNCTIONS = {
    "leaky_relu": {"scale": np.array([0.2])},
    "prelu": {"scale": np.linspace(-0.3, 0.8, 6)},
    "clip": {"low": -0.4, "high": 0.9},
    "threshold": {"low": 0.3},
    **{kind: {} for kind in ("elu", "gelu", "gelu_tanh", "tanh", "softplus", "softsign", "mish", "hard_sigmoid")},
}
MERGES = ("concat", "maximum", "minimum", "add", "multiply")


@cache
def function(kind):
    """Return an inverted residual with the activation `kind` behind its convolutions, and a classifier."""
    net = Net()
    x = net.conv("first", "x", 6, 3)
    y = net.op(kind, "f1", net.conv("expand", x, 6), **FUNCTIONS[kind])
    y = net.op(kind, "f2", net.depthwise("d", y), **FUNCTIONS[kind])
    net.op("add", "sum", x, net.conv("project", y, 6))
    return finished(net)


@cache
def merge(kind):
    """Return two branches of other ranges, one of which is read twice, merged by `kind`."""
    net = Net()
    x = net.conv("first", "x", 6, 3, activation="relu6")
    first, second = net.conv("a", x, 6, gain=3.0), net.conv("b", x, 6)
    shape = (1, 8, 8, 12) if kind == "concat" else None
    merged = net.op(kind, "merged", first, second, shape=shape, axis=3)
    net.op("concat", "end", merged, second, shape=(1, 8, 8, net.shapes[merged][-1] + 6), axis=3)
    return finished(net)


def finished(net):
    """Return the graph with a classifier of the mean."""
    last = net.ops[-1].output
    channels = net.shapes[last][-1]
    net.op("global_average_pool", "pool", last, shape=(1, channels))
    kernel, bias = net.rng.normal(0, 1, (channels, 4)).astype(np.float32), np.zeros(4, np.float32)
    net.op("dense", "logits", "pool", shape=(1, 4), kernel=kernel, bias=bias)
    return net.graph()


GRAPHS = {**dict.fromkeys(FUNCTIONS, function), **dict.fromkeys(MERGES, merge)}


def graph_of(kind):
    return GRAPHS[kind](kind)


@cache
def quantized(kind, recipe):
    calibration = CalibrationSet(PIXELS, tuple(map(str, range(len(PIXELS)))), "0" * 64)
    return quantize(graph_of(kind), PLAIN_PREPROCESS, calibration, recipe)


def answers(made, file_format):
    """Return the real outputs (N, 4) of the file for all pictures."""
    if file_format == "onnx":
        data = write_onnx_int8(made)
        return np.concatenate([run(data, as_nchw(image[None]))[0] for image in PIXELS])
    data, params = write_tflite_int8(made, input_dtype="int8"), made.output_params
    integers = np.concatenate([interpret(data, (image[None].astype(int) - 128).astype(np.int8)) for image in PIXELS])
    return (integers.astype(np.float64) - params.zero_point) * params.scale


def share_lost(kind, made, file_format):
    """Return the power of the error over that of the signal's variation between pictures."""
    expected = run_graph(graph_of(kind), normalize(PIXELS, PLAIN_PREPROCESS))["logits"]
    error = answers(made, file_format) - expected
    return float((error**2).mean() / expected.var(0).mean())


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("recipe", [INT8, PLAIN], ids=lambda recipe: recipe.name)
def test_int8_is_near_float_and_alike_in_both_formats(kind, recipe):
    made = quantized(kind, recipe).graph
    # Pictures of noise differ little behind a mean over 64 positions; networks of ReLU6 alone lose as much.
    assert share_lost(kind, made, "tflite") < 0.1
    tflite, onnx = answers(made, "tflite"), answers(made, "onnx")
    # Kernels round ties differently, and ONNX Runtime composes a PReLU of two roundings.
    assert ((tflite - onnx) ** 2).mean() < 0.03 * tflite.var(0).mean()


@pytest.mark.parametrize("kind", GRAPHS)
def test_what_has_no_integer_kernel_is_float_and_said(kind, tmp_path):
    made = quantized(kind, INT8)
    wanted = "int8-mixed" if kind in FLOAT_ONLY else "int8"
    assert made.graph.precision == made.record["precision"] == wanted
    assert any("f1" in text and kind in text for text in made.warnings) is (kind in FLOAT_ONLY)
    for name, data in (("m.tflite", write_tflite_int8(made.graph)), ("m.onnx", write_onnx_int8(made.graph))):
        (tmp_path / name).write_bytes(data)
        assert inspect_file(tmp_path / name).precision == wanted


@pytest.mark.parametrize("kind", GRAPHS)
def test_activations_of_16_bits_are_closer_or_refused(kind):
    if kind in NO_INT16:
        with pytest.raises(InputError, match="f1"):
            quantized(kind, INT16)
    else:
        assert share_lost(kind, quantized(kind, INT16).graph, "tflite") < 0.02


@pytest.mark.parametrize("kind", GRAPHS)
def test_passes_leave_the_function_as_it_is(kind):
    graph = graph_of(kind)
    state = calibrated(graph)
    assert_same(graph, absorb(state).graph)
    assert_same(graph, equalize(state).graph)


def test_factors_pass_a_slope_below_zero_and_a_maximum():
    """A concatenation has other channels than its inputs, and bounds are not scaled."""

    def joined(kind):
        return {name for group in channel_groups(graph_of(kind)) for name in group.tensors}

    assert {"f1", "expand"} <= joined("leaky_relu")
    assert {"f1", "expand"} <= joined("prelu")
    assert not {"f1", "expand"} & joined("clip")
    assert not {"a", "b", "merged"} & joined("concat")


def test_tensors_that_only_a_merge_reads_get_its_parameters_at_once():
    made = quantized("concat", PLAIN).graph
    params = made.activations
    assert params["a"] == params["merged"] == params["end"]
    assert params["b"] != params["merged"]  # it is read by another op, too
    clipped = quantized("clip", PLAIN).graph.activations
    assert clipped["expand"] == clipped["f1"]
    assert clipped["f1"].range[1] == pytest.approx(0.9, abs=clipped["f1"].scale)
