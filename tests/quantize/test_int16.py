"""Activations of 16 bits: their arithmetic op by op in the real interpreter, mixtures with 8 bits, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from graph_reference import run_graph
from hypothesis import given
from hypothesis import strategies as st
from quantize_graphs import (
    INPUT_PARAMS,
    Net,
    calibrated,
    demo_calibration,
    demo_graph,
    images,
)

from mbn_deploy.diagnose.read_graph import read_file_graph
from mbn_deploy.diagnose.tensor_runner import open_runner
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.export.file_types import DEFAULT_PRECISIONS
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.export.tflite.storage import Int8Storage, largest_sum
from mbn_deploy.export.tflite.writer import write_tflite_int8
from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.quantized import INT8_MAX, INT8_MIN, INT16_MAX, QuantParams
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.quantize.int16 import HEADROOM, to_int16
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.passes.bias import real_weights
from mbn_deploy.quantize.passes.hard_swish import duplication_pays_int16, lower_hard_swishes
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8, INT16, RECIPES
from mbn_deploy.runtime.backends import open_backend

EVERYTHING = 2.0**-14  # of a range: what one rounding, and one of the kernel's 15-bit multiplier, may take


def to_16_bits(graph, x=None, layers=None):
    """Quantized with activations of 16 bits, all or those that write `layers`."""
    lowered = lower_hard_swishes(absorb_hard_sigmoids(graph), duplication_pays_int16)
    outputs = frozenset(op.output for op in lowered.graph.ops) if layers is None else frozenset(layers)
    return quantize_graph(calibrated(lowered.graph, x, lowered.floors), INPUT_PARAMS, int16_outputs=outputs)


def network(kind):
    """A small graph that ends in what is tested."""
    net = Net()
    x = net.conv("first", "x", 8, 3, activation="relu6" if kind == "relu6" else "none", gain=6.0)
    match kind:
        case "first" | "relu6":
            pass
        case "depthwise":
            net.depthwise("end", x, "relu6")
        case "residual":
            net.op("add", "end", x, net.depthwise("d", x))
        case "squeeze":
            net.squeeze("end", x, gain=3.0)
        case "hard_swish":  # twin behind the convolution, shared behind the depthwise one
            swish = net.op("hard_swish", "swish", x)
            again = net.op("hard_swish", "again", net.depthwise("d", swish))
            net.conv("end", again, 4)
        case "average_pool" | "max_pool":
            net.op(kind, "end", x, shape=(1, 4, 4, 8), window=(2, 2), stride=(2, 2))
        case "global_average_pool" | "global_max_pool":
            net.op(kind, "end", x, shape=(1, 1, 1, 8), keepdims=True)
        case "pad":
            net.op("pad", "end", x, shape=(1, 9, 10, 8), pads=(1, 0, 2, 0))
        case "relu" | "sigmoid":
            net.op(kind, "end", x)
        case "softmax":
            net.op("softmax", "end", net.op("reshape", "flat", net.conv("logits", net.pool("p", x), 10), shape=(1, 10)))
    return net.graph()


KINDS = (
    "first", "relu6", "depthwise", "residual", "squeeze", "hard_swish", "average_pool", "max_pool",
    "global_average_pool", "global_max_pool", "pad", "relu", "sigmoid", "softmax",
)  # fmt: skip


def exact(quantized, op, inputs):
    """What the op makes of real inputs with the weights that its integers stand for."""
    if op.name in quantized.weights:
        stored = quantized.weights[op.name]
        scale = np.float64(quantized.int16_params[op.inputs[0]].scale) * stored.scales
        op = replace(real_weights(op, stored), bias=(stored.bias * scale).astype(np.float32))
    shape = quantized.graph.shapes[op.output]
    return np.asarray(activated(op, run_op(op, inputs, shape)), np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_every_op_is_the_float_op_on_its_integers(kind):
    """Each is compared on the integers that the interpreter really had, so that no error adds up."""
    quantized = to_16_bits(network(kind))
    data = write_tflite_int8(quantized, input_dtype="int16")
    stored = read_file_graph(data, "tflite", "m")
    names = [op.output for op in quantized.graph.ops if op.output in stored.shapes]
    params = quantized.int16_params[quantized.graph.input]
    for image in images(quantized.graph, 3, seed=5):
        integers = np.rint(image[None] / params.scale).astype(np.int16)
        found = open_runner(data, stored, [*names, stored.input]).run(integers)
        for op in quantized.graph.ops:
            if not all(name in found for name in (*op.inputs, op.output)):
                continue
            inputs = [found[name].reshape(quantized.graph.shapes[name]) for name in op.inputs]
            low, high = quantized.int16_params[op.output].range
            wanted = np.clip(exact(quantized, op, inputs), low, high)
            # SOFTMAX looks up its exponentials, and ends at e^-10.
            allowed = 2e-3 if op.kind == "softmax" else (high - low) * EVERYTHING
            np.testing.assert_allclose(found[op.output].reshape(wanted.shape), wanted, atol=allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_is_the_float_network(kind):
    graph = network(kind)
    x = images(graph)
    quantized = to_16_bits(graph, x)
    backend = open_backend(write_tflite_int8(quantized, input_dtype="float32"), "tflite")
    for image in x:
        wanted = run_graph(quantized.graph, image[None])[graph.output]
        # Weights of 8 bits: half a step of 1/127 each, a few layers.
        np.testing.assert_allclose(backend.run(image[None]).reshape(wanted.shape), wanted, atol=0.05 * np.ptp(wanted))


@given(st.floats(1e-6, 10), st.integers(INT8_MIN, INT8_MAX), st.integers(INT8_MIN, INT8_MAX))
def test_8_bits_become_16_without_loss(scale, zero_point, level):
    narrow = QuantParams(float(np.float32(scale)), zero_point)
    wider = to_int16(narrow)
    value = narrow.scale * (level - zero_point)
    integer = value / wider.scale
    assert integer == round(integer)
    assert abs(integer) <= INT16_MAX


def test_16_bits_are_symmetric():
    assert all(params.zero_point == 0 for params in to_16_bits(network("squeeze")).int16_params.values())


def test_ranges_reach_beyond_what_was_seen():
    graph = network("first")
    quantized = to_16_bits(graph)
    seen = calibrated(graph).ranges["first"]
    reach = max(float(seen.high.max()), -float(seen.low.min()))
    assert quantized.int16_params["first"].range[1] == pytest.approx(HEADROOM * reach)


def test_relu6_and_the_unit_clip_are_exact():
    """Values far beyond both ends of [0, 6] and of [0, 1]."""
    net = Net()
    net.conv("six", "x", 8, activation="relu6", gain=40.0)
    six = to_16_bits(net.graph())
    net = Net()
    net.op("hard_sigmoid", "gate", net.conv("c", "x", 8, gain=40.0))
    gate = to_16_bits(net.graph())
    for quantized, bound in ((six, 6.0), (gate, 1.0)):
        backend = open_backend(write_tflite_int8(quantized, input_dtype="int16"), "tflite")
        image = np.random.default_rng(0).integers(-32000, 32000, backend.input.shape).astype(np.int16)
        levels = backend.run(image)
        assert (levels.min(), levels.max()) == (0, INT16_MAX)
        assert backend.output.scale * INT16_MAX == pytest.approx(bound, rel=1e-6)


def test_sums_have_32_bits_only_where_they_fit():
    """The fast kernel adds up in 32 bits: inputs at the end of their range must not run over."""
    net = Net(shape=(1, 2, 2, 1600))
    net.conv("small", "x", 4, gain=0.1)
    graph = net.graph()
    fits, alike = to_16_bits(graph), np.full((1, 1, 1600, 4), 0.02, np.float32)
    large = to_16_bits(replace(graph, ops=(replace(graph.ops[0], kernel=alike),)))
    types = []
    for quantized in (fits, large):
        op = quantized.graph.ops[0]
        types.append(Int8Storage(quantized).bias_type(op))
        data = write_tflite_int8(quantized, input_dtype="int16")
        backend = open_backend(data, "tflite")
        ends = np.where(np.random.default_rng(0).random(backend.input.shape) < 0.9, 32767, -32768).astype(np.int16)
        real = ends.astype(np.float32) * quantized.int16_params["x"].scale
        low, high = quantized.int16_params["small"].range
        wanted = np.clip(exact(quantized, op, [real]), low, high)
        found = backend.run(ends) * quantized.int16_params["small"].scale
        np.testing.assert_allclose(found, wanted, atol=(high - low) * EVERYTHING)
    assert types == ["int32", "int64"]
    assert largest_sum(fits.weights["small"]) < 2**31 <= largest_sum(large.weights["small"])


def test_depthwise_sums_have_64_bits():
    quantized = to_16_bits(network("depthwise"))
    bias = {op.kind: Int8Storage(quantized).bias_type(op) for op in quantized.graph.ops}
    assert bias == {"conv": "int32", "depthwise": "int64"}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float32"])
def test_every_input_type_is_the_same_picture(dtype):
    """Pixels lie 128 levels apart in 16 bits, exactly: the answers are those of the int16 input."""
    quantized = to_16_bits(network("squeeze"))
    pixels = np.random.default_rng(3).integers(0, 256, (1, 8, 8, 3))
    real = ((pixels - 128) * np.float32(INPUT_PARAMS.scale)).astype(np.float32)
    given = {"uint8": pixels, "int8": pixels - 128, "int16": (pixels - 128) * 128, "float32": real}[dtype]
    backend = open_backend(write_tflite_int8(quantized, input_dtype=dtype), "tflite")
    reference = open_backend(write_tflite_int8(quantized, input_dtype="int16"), "tflite")
    assert backend.output.dtype == ("float32" if dtype == "float32" else "int16")
    found = backend.run(given.astype(dtype))
    wanted = reference.run(((pixels - 128) * 128).astype(np.int16))
    if dtype == "float32":
        np.testing.assert_allclose(found, wanted * np.float32(reference.output.scale), rtol=1e-6)
    else:
        np.testing.assert_array_equal(found, wanted)


# Mixtures


def test_layers_of_16_bits_in_an_8_bit_file():
    graph = network("hard_swish")
    quantized = to_16_bits(graph, layers=["d"])
    assert quantized.precision == "int8-mixed"
    report = report_tflite(write_tflite_int8(quantized, input_dtype="int8"), "m")
    assert report.precision == "int8-mixed"
    assert report.all_integer
    (layer,) = [op for op in report.ops if op.kind == "DEPTHWISE_CONV_2D"]
    assert {t.dtype for t in (*layer.inputs, *layer.outputs)} == {"int16"}
    others = [op for op in report.ops if op is not layer and op.kind != "QUANTIZE"]
    assert {t.dtype for op in others for t in op.outputs} == {"int8"}
    # Into 16 bits and back, though two ops read the result.
    assert [op.kind for op in report.ops].count("QUANTIZE") == 2


@pytest.mark.parametrize("floats", [frozenset(), frozenset({"first"})])
def test_borders_between_widths_and_float(floats):
    """Everything beside everything: float, 16 bits, 8 bits, in one chain."""
    net = Net()
    net.conv("end", net.depthwise("c", net.conv("b", net.conv("first", "x", 8, 3), 8), "relu6"), 4)
    graph = net.graph()
    x = images(graph)
    state = calibrated(graph, x)
    quantized = quantize_graph(state, INPUT_PARAMS, float_outputs=floats, int16_outputs=frozenset({"b", "end"}))
    backend = open_backend(write_tflite_int8(quantized, input_dtype="uint8"), "tflite")
    assert backend.output.dtype == "int16"
    wanted = run_graph(graph, x[:1])["end"]
    pixels = np.clip(np.rint(x[:1] / INPUT_PARAMS.scale) + 128, 0, 255).astype(np.uint8)
    found = backend.run(pixels) * np.float32(backend.output.scale)
    np.testing.assert_allclose(found, wanted, atol=0.06 * np.ptp(wanted))


def test_layer_names_reach_what_lowering_makes_of_them():
    graph, preprocess = demo_graph("mobilenet_v3_small")
    swish = next(op for op in graph.ops if op.kind == "hard_swish")
    found = quantize(graph, preprocess, demo_calibration(), replace(INT8, int16_layers=(swish.output,)))
    parts = {op.output for op in found.graph.graph.ops if found.graph.is_int16(op)}
    assert swish.output in parts
    assert f"{swish.output}/gate" in parts
    assert found.record["precision"] == "int8-mixed"
    assert found.record["int16_layers"]
    with pytest.raises(UnknownNameError, match="layer"):
        quantize(graph, preprocess, demo_calibration(), replace(INT8, int16_layers=("nowhere",)))


def test_onnx_has_no_16_bits():
    with pytest.raises(InputError, match="16 bits"):
        write_onnx_int8(to_16_bits(network("first")))
    with pytest.raises(UsageError, match="int16"):
        ExportOptions(formats=("onnx",), precisions=("float32", "int16x8"), calibrate="c")
    with pytest.raises(UsageError, match="ONNX"):
        ExportOptions(precisions=("int8",), calibrate="c", int16_layers=("a",))


def test_it_is_asked_for():
    assert "int16x8" not in DEFAULT_PRECISIONS
    assert INT16.name not in RECIPES
    assert ExportOptions(calibrate="c").quantized == ("int8",)
    assert ExportOptions(precisions=("int8", "int16x8"), calibrate="c").files() == [
        ("tflite", "int8"), ("tflite", "int16x8"), ("onnx", "int8"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="int16x8"):
        ExportOptions(precisions=("int16x8",))
    with pytest.raises(UsageError, match="float"):
        ExportOptions(precisions=("int16x8",), calibrate="c", float_layers=("a",))
    with pytest.raises(UsageError, match="int16"):
        ExportOptions(precisions=("int8",), calibrate="c", input="int16")


def test_recipes_say_it_in_json():
    assert replace(INT8, name="mine", int16_layers=("a", "b")).to_dict()["int16_layers"] == ["a", "b"]
    assert INT16.to_dict()["activations"] == "int16"
