"""Which tensors the quantizer splits, ties together or gives 16 bits, on graphs of three ops."""

from dataclasses import replace

import numpy as np
import pytest
from quantize_graphs import Net, calibrated, images
from test_quantize_arithmetic import rounding, seen, weighted

from mbn_deploy.export.graph import Graph, Op
from mbn_deploy.quantize.channels import ChannelGroup, channel_groups, rescale
from mbn_deploy.quantize.ranges import Calibrated
from mbn_deploy.quantize.recipe import INT8, Recipe
from mbn_deploy.quantize.scheme import ActivationParams, QuantizedGraph, constant_levels
from mbn_deploy.quantize.split import MAX_PARTS, split_vectors
from mbn_deploy.quantize.ties import untied_mean
from mbn_deploy.quantize.wide import MAX_WIDE_MULTIPLIER, wide_params

HIGH = [4.0, 1.0, 0.5]
WIDE = ActivationParams(1e-3, 0, "int16")


def gates(*strengths, activation="relu", size=1, reader="unit"):
    """x (2 channels) -> v (3 channels, a vector if `size` is 1) -> a gate for each of `strengths`."""
    kernel = np.array([[1.0, -2.0, 3.0], [0.5, 1.0, -1.0]])[None, None]
    vector = weighted("conv", "v", "x", kernel, bias=[0.1, 0.2, 0.3], activation=activation)
    readers = [
        weighted("conv", f"g{number}", "v", np.full((1, 1, 3, 2), strength), activation=reader)
        for number, strength in enumerate(strengths)
    ]
    names = {"x": 2, "v": 3} | {op.output: 2 for op in readers}
    shapes = {name: (1, size, size, channels) for name, channels in names.items()}
    graph = Graph("net", "x", readers[-1].output, (vector, *readers), shapes)
    return Calibrated(graph, {"x": seen([0, 0], [1, 1]), "v": seen([0] * 3, HIGH)}, {})


def test_a_vector_is_split_into_parts():
    """4 * 0.1 * sqrt(3) of what the gate itself rounds; at most half of it is wanted, which takes two parts."""
    made = split_vectors(gates(0.1))
    vector, gate = made.graph.ops
    assert made.graph.shapes["v"] == (1, 1, 1, 4)
    assert vector.activation == "unit"
    np.testing.assert_allclose(vector.kernel[0, 0, 0], [0.5, 0.5, -1.0, 1.5])
    np.testing.assert_allclose(vector.bias, [0.05, 0.05 - 1, 0.1, 0.15])
    np.testing.assert_allclose(gate.kernel[0, 0, :, 0], [0.2] * 4)
    found = made.ranges["v"]
    reached = np.array([1, 1, 0.5, 0.25])
    np.testing.assert_allclose(found.low, 0)
    np.testing.assert_allclose(found.high, reached)
    np.testing.assert_allclose(found.mean, reached / 2)  # as if every value were as frequent
    np.testing.assert_allclose(found.variance, rounding(reached))
    np.testing.assert_allclose(found.power, reached**2 / 3)


def test_the_gate_that_depends_on_a_vector_most_decides_on_its_parts():
    assert split_vectors(gates(0.2, 100.0)).graph.shapes["v"][-1] > split_vectors(gates(0.2)).graph.shapes["v"][-1]
    assert split_vectors(gates(100.0)).graph.shapes["v"][-1] == MAX_PARTS + 2 + 1


@pytest.mark.parametrize(
    "state",
    [
        gates(0.05),  # one part is enough
        gates(0.2, activation="none"),
        gates(0.2, activation="relu6"),
        gates(0.2, size=2),
        gates(0.2, reader="relu"),
        replace(gates(0.2), ranges={"v": seen([0] * 3, [0] * 3)}),
    ],
)
def test_what_is_no_vector_of_a_gate_stays_whole(state):
    assert split_vectors(state) is state


def test_vectors_in_float_stay_whole():
    state = gates(0.2)
    assert split_vectors(state, frozenset({"v"})) is state


def behind(kind, before, after, **more):
    """x -> c (depthwise) -> an op of `kind` -> d (conv)."""
    channels = before[-1]
    first = weighted("depthwise", "c", "x", np.ones((1, 1, channels, 1)))
    middle = Op(kind, "m", ("c",), "m", **more)
    last = weighted("conv", "d", "m", np.ones((1, 1, after[-1], 2)))
    shapes = {"x": before, "c": before, "m": after, "d": (*after[:-1], 2)}
    return Graph("net", "x", "d", (first, middle, last), shapes)


@pytest.mark.parametrize(
    ("before", "after", "shared"),
    [
        ((1, 1, 1, 8), (1, 8), True),
        ((2, 1, 1, 8), (2, 8), True),
        ((1, 1, 1, 8), (1, 1, 8), True),
        ((1, 2, 2, 8), (4, 8), False),
        ((1, 2, 2, 8), (1, 32), False),
        ((1, 1, 1, 8), (8, 1), False),
    ],
)
def test_a_reshape_of_a_vector_hands_channels_on(before, after, shared):
    groups = channel_groups(behind("reshape", before, after))
    assert (ChannelGroup(("c", "m"), 8) in groups) == shared


def test_the_bounds_of_a_minimum_follow_their_channels():
    graph = behind("minimum", (1, 4, 4, 2), (1, 4, 4, 2), offset=np.array([3.0, 6.0]))
    factors = np.array([2.0, 0.5])
    made = rescale(graph, ChannelGroup(("c", "m"), 2), factors)
    np.testing.assert_allclose(made.ops[1].offset, [6, 3])
    np.testing.assert_allclose(made.ops[0].kernel[0, 0, :, 0], factors)
    np.testing.assert_allclose(made.ops[2].kernel[0, 0, :, 0], 1 / factors)
    other = rescale(graph, ChannelGroup(("x",), 2), factors)
    np.testing.assert_allclose(other.ops[1].offset, [3, 6])
    state = Calibrated(graph, {"c": seen([0, 0], [9, 4]), "m": seen([0, 0], [3, 4])}, {})
    assert {name: bound.tolist() for name, bound in state.ceilings.items()} == {"c": [3, 6]}
    assert state.useful("c")[1].tolist() == [3, 4]


def test_zero_is_always_inside_a_range():
    state = Calibrated(gates(0.2).graph, {"v": seen([1, -3, -2], [2, 3, -1])}, {})
    low, high = state.useful("v")
    assert (low.tolist(), high.tolist()) == ([0, -3, -2], [2, 3, 0])


def test_a_variance_is_not_negative():
    assert seen([0], [1], mean=[0.5], power=[0.25 - 1e-9]).variance.tolist() == [0]


def test_16_bits_of_what_is_handed_on_multiplied_or_a_probability():
    state = gates(0.2)
    read = {"c": WIDE, "g": ActivationParams(2.0, 0, "int16")}
    assert wide_params(Op("max_pool", "m", ("c",), "m"), state, read) == WIDE
    for kind in ("softmax", "sigmoid"):
        assert wide_params(Op(kind, "m", ("c",), "m"), state, read) == ActivationParams(2.0**-15, 0, "int16")
    product = Op("multiply", "m", ("c", "g"), "m")
    small = replace(state, ranges={"m": seen([0], [1e-3])})
    assert wide_params(product, small, read).scale == pytest.approx(1e-3 * 2 / MAX_WIDE_MULTIPLIER)
    large = replace(state, ranges={"m": seen([0], [1e6])})
    assert wide_params(product, large, read).scale == pytest.approx(2e6 / 32767)


def test_what_a_quantized_graph_is_called():
    graph = gates(0.2).graph
    made = QuantizedGraph(graph, {}, {})
    assert made.precision == "int8"
    assert replace(made, float_outputs=frozenset({"v"})).precision == "int8-mixed"
    assert replace(made, wide_outputs=frozenset({"v"})).precision == "int8-mixed"
    assert replace(made, wide_outputs=frozenset({"v", "g0"})).precision == "int16x8"


def test_biases_are_corrected_unless_a_recipe_says_no():
    assert Recipe("r").correct_biases
    assert INT8.correct_biases


def test_a_mean_is_moved_from_the_first_border():
    """49 values of the lowest level but one unit of the sum end on a border half a level above the lowest."""
    tied = ActivationParams(2.0, -128)
    assert untied_mean(tied, ActivationParams(1.0, -128), 1).scale > 2


def test_one_number_for_all_channels_is_one_level():
    op = Op("add_constant", "a", ("c",), "a", offset=np.array([-3.0]))
    level, params = constant_levels(op, ActivationParams(0.5, 0))
    assert (int(level), params.scale * int(level)) == (-127, pytest.approx(-3))


def test_calibration_sees_every_tensor():
    net = Net()
    net.conv("d", net.depthwise("c", "x", "relu6"), 4)
    graph = net.graph()
    assert set(calibrated(graph, images(graph)).ranges) >= {"c", "d"}
