"""The measures of a diagnosis, on numbers small enough to be worked out by hand."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import runtime_models as models

from mbn_deploy.diagnose.comparison import ModelComparison, chunks
from mbn_deploy.diagnose.diagnose import match_models
from mbn_deploy.diagnose.file_graph import FileGraph, FileOp
from mbn_deploy.diagnose.layer_errors import MAX_DB, ChannelSums, LayerError, badness, decibel, divergences, spread
from mbn_deploy.diagnose.layer_summary import image_count, relevant_values, weight_range
from mbn_deploy.diagnose.matching import MatchedTensor, essential_shape, is_part, stored_tensor
from mbn_deploy.diagnose.model_file import open_model
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantizedGraph, QuantParams
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange


def sums(reference, found):
    made = ChannelSums(np.shape(reference)[-1])
    for r, q in zip(np.array(reference, np.float32), np.array(found, np.float32), strict=True):
        made.add(r, q)
    return made


def test_sums_over_channels():
    made = sums([[1, 2, 0], [3, -1, 0]], [[2, 2, 5], [5, -2, 0]])
    assert (made.rr.tolist(), made.qq.tolist(), made.rq.tolist()) == ([10, 5, 0], [29, 8, 25], [17, 6, 0])
    assert made.largest.tolist() == [5, 2, 5]
    assert made.count == 6
    assert sums([[0.0]], [[-0.25]]).largest.tolist() == [0.25]


def test_signal_to_noise_and_error_up_to_factors():
    made = sums([[1, 2], [3, -1]], [[2, 5], [5, -2]])
    factors = np.array([2.0, 2.0])
    noise = (1 - 1) ** 2 + (3 - 2.5) ** 2 + (2 - 2.5) ** 2 + (-1 + 1) ** 2  # in the units of the reference
    assert made.sqnr(factors) == pytest.approx(10 * np.log10((1 + 9 + 4 + 1) / noise))
    assert made.error(factors) == pytest.approx(np.sqrt((0 + 1 + 1 + 0) / 4))
    assert ChannelSums(2).error(np.ones(2)) == 0


def test_decibels_have_ends():
    assert decibel(100.0, 1.0) == pytest.approx(20)
    assert (decibel(1.0, 0.0), decibel(0.0, 0.0), decibel(0.0, 1.0)) == (MAX_DB, MAX_DB, -MAX_DB)
    assert (decibel(1e30, 1e-30), decibel(1e-30, 1e30)) == (120, -120)


def test_spread_is_of_channels_that_live():
    assert spread(np.array([0.0, 1.0, 2.0, 8.0])) == 4
    assert spread(np.zeros(3)) is None


def test_divergences_of_one_answer_and_of_many():
    p, q = np.array([[0.5, 0.5]], np.float32), np.array([[0.25, 0.75]], np.float32)
    one = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75)
    np.testing.assert_allclose(divergences(p, q, independent=False), [one], rtol=1e-6)
    np.testing.assert_allclose(divergences(p, q, independent=True), [2 * one], rtol=1e-6)
    least = 1 / 512
    sure, other = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    expected = (1 - 2 * least) * log((1 - least) / least)
    np.testing.assert_allclose(divergences(sure, other, independent=False), [expected], rtol=1e-6)
    np.testing.assert_allclose(divergences(sure, sure, independent=True), [0], atol=1e-9)


def test_what_a_diagnosis_is_sorted_by():
    row = LayerError("l", "t", (), "int8", 1.0, 0, 0.5, 20.0, 1.0, 10.0, 1.0, 0.0, 0.0, None, None, (1.0, 1.0))
    assert badness(row) == (-0.5, 20.0)
    assert badness(replace(row, sqnr_alone=None, effect=None)) == (0.0, 10.0)


def layer(kernel, *, bias=0.0, depthwise=False, kind="CONV_2D", inputs=("x",), output="y"):
    kernel = None if kernel is None else np.array(kernel, np.float32)

    def run(values):
        flat = kernel.sum((0, 1)) if kernel.ndim == 4 else kernel
        if depthwise:
            return values[0].reshape(-1, *values[0].shape[-1:])[:1] * flat.reshape(-1) + bias
        return values[0].reshape(-1, flat.shape[0])[:1] @ flat + bias

    return FileOp("l", kind, inputs, output, None if kernel is None else run, kernel, depthwise)


KERNEL = np.arange(1.0, 13.0).reshape(1, 2, 2, 3)


def test_a_step_inside_a_layer_is_a_part_of_it():
    graph = FileGraph("here", "tflite", "x", "y", (), dict.fromkeys(("x", "conv", "conv/linear"), (1, 2)), {})
    assert is_part("conv/linear", graph)
    assert not is_part("conv", graph)


def test_a_clip_belongs_to_what_it_stands_behind():
    conv, clip = layer(KERNEL, kind="Conv", output="c"), FileOp("", "Clip", ("c",), "k")
    tensor = MatchedTensor("y", "y", "k", None, (conv, clip))
    assert (tensor.operations, tensor.layer) == (("Conv",), "l")
    alone = replace(tensor, segment=(clip,))
    assert (alone.operations, alone.layer) == (("Clip",), "y")


def test_shapes_of_one_number_of_channels_are_the_same():
    assert essential_shape((4, 1, 1, 7)) == essential_shape((1, 7)) == (7,)
    assert essential_shape((4, 2, 1, 7)) == (2, 7)
    assert essential_shape(None) is None


def test_where_the_integers_of_an_onnx_tensor_are():
    def stored(*behind):
        ops = (layer(KERNEL, output="y"), FileOp("", "QuantizeLinear", ("y",), "q"), *behind)
        network = FileGraph("here", "onnx", "x", "z", ops, {}, {})
        return stored_tensor("y", network.writers(), network.readers())

    clip, back = FileOp("", "Clip", ("q",), "k"), FileOp("", "DequantizeLinear", ("q",), "d")
    assert (stored(clip), stored(back), stored(clip, back), stored()) == ("k", "q", "q", "q")


def test_figures_by_layer_are_of_as_many_images_as_fit():
    def count(*sizes):
        graph = Graph("net", "x", "x", (), {f"t{at}": (1, size, 1) for at, size in enumerate(sizes)})
        return image_count(QuantizedGraph(graph, {}, {}))

    mebi = 2**20
    assert [count(size * mebi) for size in (1, 8, 16, 32, 64)] == [4, 4, 2, 1, 1]
    assert count(16 * mebi, 8 * mebi) == 2  # the largest tensor decides


def test_ends_and_spreadweight_range():
    kernel = np.float32([[1, -2, 8], [0.5, -1, 4]]).reshape(1, 1, 2, 3)
    found = weight_range(Op("conv", "c", ("x",), "c", kernel, np.zeros(3, np.float32)))
    assert (found.low, found.high, found.spread) == (-2, 8, 4)
    kernel = np.float32([[1, -2], [1, 4]]).reshape(2, 1, 2, 1)  # two taps of two channels
    found = weight_range(Op("depthwise", "d", ("x",), "d", kernel, np.zeros(2, np.float32)))
    assert (found.low, found.high, found.spread) == (-2, 4, 4 / 2.5)


def test_what_lies_beyond_bounds_is_not_seen():
    ops = (Op("bound", "m", ("x",), "m", offset=np.array([1.0, 4.0])),)
    state = CalibratedGraph(Graph("net", "x", "m", ops, {"m": (1, 2)}), {}, {"x": np.array([-3.0, -0.5])})
    found = relevant_values(state, "x", np.float32([[-4, -4], [2, 2]]))
    assert found.tolist() == [[-3, -0.5], [1, 2]]
    assert found.dtype == np.float32
    assert relevant_values(state, "m", np.float32([-4, 5])).tolist() == [-4, 5]


def test_images_are_compared_as_many_at_once_as_fit():
    def sizes(values):
        ops = (layer(None, output="a"), layer(None, output="b"))
        shapes = {"x": (1, 1), "a": (1, values), "b": (1, values)}
        network = FileGraph("here", "tflite", "x", "b", ops, shapes, {})
        return [len(pixels) for pixels in chunks(np.zeros((20, 1, 1, 3), np.uint8), network)]

    mebi = 2**20
    assert sizes(1) == [16, 4]
    assert sizes(2 * mebi) == [8, 8, 4]
    assert sizes(64 * mebi) == [1] * 20


# A level of `c` is so wide that the pixels 64 to 191 are within half a step of its range, and no other.
PIXELS = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, -1)
OF_C = QuantParams(0.5 / 128.42, 0)
DENSE = np.float32([[4, 1], [-4, 1], [1, 2]])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(int8, float) of a network whose first layer hands the pixels on."""
    shapes = {"x": (1, 16, 16, 3), "c": (1, 16, 16, 3), "g": (1, 3), "d": (1, 2), "s": (1, 2)}
    ops = (
        Op("conv", "c", ("x",), "c", np.eye(3, dtype=np.float32)[None, None], np.zeros(3, np.float32)),
        Op("global_average_pool", "g", ("c",), "g"),
        Op("dense", "d", ("g",), "d", DENSE, np.zeros(2, np.float32)),
        Op("softmax", "s", ("d",), "s"),
    )
    graph = Graph("net", "x", "s", ops, shapes)
    ranges = {name: ChannelRange(*(np.full(shapes[name][-1], v) for v in (-1.0, 1.0, 0.0, 1.0))) for name in "cgds"}
    made = quantize_graph(CalibratedGraph(graph, ranges, {}), QuantParams(1 / 128, 0))
    made = replace(made, activations=made.activations | {"c": OF_C})
    folder = tmp_path_factory.mktemp("pair")
    (folder / "int8.tflite").write_bytes(write_tflite_int8(made, input_dtype="uint8"))
    (folder / "float.tflite").write_bytes(write_tflite(graph, "float32"))
    return tuple(open_model(folder / f"{name}.tflite", None, models.PIXELS) for name in ("int8", "float"))


def compared(pair, left_out=()):
    comparison = ModelComparison(*pair, [t for t in match_models(*pair) if t.name not in left_out], {})
    comparison.add(PIXELS)
    diagnosis = comparison.result()
    return {row.tensor: row for row in diagnosis.layers}, diagnosis.not_compared


def test_values_more_than_half_a_step_beyond_the_range_saturate(pair):
    rows, _ = compared(pair)
    assert (rows["c"].saturated_low, rows["c"].saturated_high) == (64 / 256, 64 / 256)
    assert (rows["d"].saturated_low, rows["d"].saturated_high) == (0, 0)
    assert rows["c"].factors == (1, 1)


def test_weights_are_spread_over_output_channels(pair):
    rows, _ = compared(pair)
    assert rows["d"].weight_spread == pytest.approx(4 / 3, rel=1e-2)
    assert (rows["c"].weight_spread, rows["g"].weight_spread) == (pytest.approx(1), None)


def test_tensors_that_are_not_compared_are_named(pair):
    assert compared(pair)[1] == ()
    rows, left = compared(pair, ["c"])
    assert (set(rows), left) == ({"g", "d", "s"}, ("c",))


def test_what_the_output_does_not_come_of_has_no_effect(pair):
    rows, _ = compared(tuple(replace(opened, graph=replace(opened.graph, output="c")) for opened in pair))
    assert rows["c"].effect > 0
    assert [rows[name].effect for name in "gds"] == [0, 0, 0]
