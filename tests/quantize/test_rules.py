"""Which tensors the quantizer splits, ties together or gives 16 bits, on graphs of three ops."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made import rounding, seen, weighted
from quantize_graphs import Net, calibrated, images

from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantizedGraph, QuantParams, constant_levels
from mbn_deploy.quantize.channel_groups import ChannelGroup, channel_groups, rescale
from mbn_deploy.quantize.int16 import MAX_INT16_MULTIPLIER, int16_output_params
from mbn_deploy.quantize.integers import quantize_graph, with_countable_bound
from mbn_deploy.quantize.mixed_precision import float_outputs
from mbn_deploy.quantize.passes.hard_swish import duplication_pays, duplication_pays_int16
from mbn_deploy.quantize.passes.rescaling_noise import RescalingNoise
from mbn_deploy.quantize.passes.split import MAX_PARTS, split_vectors
from mbn_deploy.quantize.ranges import CalibratedGraph, RangeAccumulator, observe
from mbn_deploy.quantize.recipe import INT8, RECIPES, Recipe, recipe

HIGH = [4.0, 1.0, 0.5]
INT16 = QuantParams(1e-3, 0, "int16")


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
    return CalibratedGraph(graph, {"x": seen([0, 0], [1, 1]), "v": seen([0] * 3, HIGH)}, {})


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
    graph = behind("bound", (1, 4, 4, 2), (1, 4, 4, 2), offset=np.array([3.0, 6.0]))
    factors = np.array([2.0, 0.5])
    made = rescale(graph, ChannelGroup(("c", "m"), 2), factors)
    np.testing.assert_allclose(made.ops[1].offset, [6, 3])
    np.testing.assert_allclose(made.ops[0].kernel[0, 0, :, 0], factors)
    np.testing.assert_allclose(made.ops[2].kernel[0, 0, :, 0], 1 / factors)
    other = rescale(graph, ChannelGroup(("x",), 2), factors)
    np.testing.assert_allclose(other.ops[1].offset, [3, 6])
    state = CalibratedGraph(graph, {"c": seen([0, 0], [9, 4]), "m": seen([0, 0], [3, 4])}, {})
    assert {name: bound.tolist() for name, bound in state.ceilings.items()} == {"c": [3, 6]}
    assert state.useful("c")[1].tolist() == [3, 4]


def test_zero_is_always_inside_a_range():
    state = CalibratedGraph(gates(0.2).graph, {"v": seen([1, -3, -2], [2, 3, -1])}, {})
    low, high = state.useful("v")
    assert (low.tolist(), high.tolist()) == ([0, -3, -2], [2, 3, 0])


def test_a_variance_is_not_negative():
    assert seen([0], [1], mean=[0.5], power=[0.25 - 1e-9]).variance.tolist() == [0]


def test_16_bits_of_what_is_handed_on_multiplied_or_a_probability():
    state = gates(0.2)
    read = {"c": INT16, "g": QuantParams(2.0, 0, "int16")}
    assert int16_output_params(Op("max_pool", "m", ("c",), "m"), state, read) == INT16
    for kind in ("softmax", "sigmoid"):
        assert int16_output_params(Op(kind, "m", ("c",), "m"), state, read) == QuantParams(2.0**-15, 0, "int16")
    product = Op("multiply", "m", ("c", "g"), "m")
    small = replace(state, ranges={"m": seen([0], [1e-3])})
    assert int16_output_params(product, small, read).scale == pytest.approx(1e-3 * 2 / MAX_INT16_MULTIPLIER)
    large = replace(state, ranges={"m": seen([0], [1e6])})
    assert int16_output_params(product, large, read).scale == pytest.approx(2e6 / 32767)


def test_what_a_quantized_graph_is_called():
    graph = gates(0.2).graph
    made = QuantizedGraph(graph, {}, {})
    assert made.precision == "int8"
    assert replace(made, float_outputs=frozenset({"v"})).precision == "int8-mixed"
    assert replace(made, int16_outputs=frozenset({"v"})).precision == "int8-mixed"
    assert replace(made, int16_outputs=frozenset({"v", "g0"})).precision == "int16x8"


def test_the_output_is_as_its_op_leaves_it():
    narrow = QuantParams(0.5, 3)
    made = QuantizedGraph(gates(0.2).graph, {"v": INT16, "g0": narrow}, {}, int16_params={"g0": INT16})
    assert made.output_params == narrow
    assert replace(made, int16_outputs=frozenset({"v"})).output_params == narrow
    assert replace(made, int16_outputs=frozenset({"g0"})).output_params == INT16


def test_biases_are_corrected_unless_a_recipe_says_no():
    assert Recipe("r").correct_biases
    assert Recipe("r").equalize
    assert INT8.correct_biases


def test_one_number_for_all_channels_is_one_level():
    op = Op("add_constant", "a", ("c",), "a", offset=np.array([-3.0]))
    level, params = constant_levels(op, QuantParams(0.5, 0))
    assert (int(level), params.scale * int(level)) == (-127, pytest.approx(-3))


def test_calibration_sees_every_tensor():
    net = Net()
    net.conv("d", net.depthwise("c", "x", "relu6"), 4)
    graph = net.graph()
    assert set(calibrated(graph, images(graph)).ranges) >= {"c", "d"}


def test_rungs_that_split_vectors():
    assert [name for name in RECIPES if recipe(name).split_vectors] == [
        "int8",
        "int8-twin",
        "int8-mixed-twin",
        "int8-mixed-3",
    ]


def test_a_channel_that_is_always_zero_keeps_a_part():
    """It may be seen elsewhere; what it is worth up to the width of a part gets through."""
    state = gates(0.1)
    made = split_vectors(replace(state, ranges={"v": seen([0] * 3, [4, 0, 0.5])}))
    assert made.graph.ops[0].kernel.shape[-1] == 2 + 1 + 1


UNIT_STEP = QuantParams(1.0, -128)


def product(ranges):
    """x -> c, x -> g (convolutions) -> their product m."""
    c, g = (weighted("conv", name, "x", np.full((1, 1, 1, 2), 0.1)) for name in "cg")
    shapes = {"x": (1, 4, 4, 1)} | dict.fromkeys("cgm", (1, 4, 4, 2))
    return CalibratedGraph(Graph("net", "x", "m", (c, g, Op("multiply", "m", ("c", "g"), "m")), shapes), ranges, {})


def test_ties_are_stepped_around_where_integers_of_8_bits_are_computed():
    tied = 2.0 * 89 * 97  # half a step of it is a product of two levels
    state = product({"c": seen([0, 0], [255, 255]), "g": seen([0, 0], [255, 255]), "m": seen([0, 0], [1, tied * 255])})
    assert quantize_graph(state, UNIT_STEP).activations["m"].scale > tied
    for way in ("float_outputs", "int16_outputs"):
        assert quantize_graph(state, UNIT_STEP, **{way: frozenset({"m"})}).activations["m"].scale == tied


def test_a_gate_keeps_its_scale():
    graph = product({}).graph
    reader = weighted("conv", "r", "m", np.ones((1, 1, 2, 2)))
    graph = Graph("net", "x", "r", (*graph.ops, reader), graph.shapes | {"r": (1, 4, 4, 2)})
    assert channel_groups(graph) == [ChannelGroup(("c", "m"), 2)]


def logits(kernel, high):
    """Parameters of x -> c (conv) -> p (softmax)."""
    conv = weighted("conv", "c", "x", np.full((1, 1, 1, 2), kernel))
    graph = Graph("net", "x", "p", (conv, Op("softmax", "p", ("c",), "p")), dict.fromkeys("xcp", (1, 1, 1, 2)))
    return quantize_graph(CalibratedGraph(graph, {"c": seen([0, 0], [high, high])}, {}), UNIT_STEP).activations


def test_steps_of_logits_and_probabilities():
    assert logits(0.1, 5.1)["c"].scale == pytest.approx(5.1 / 255)
    assert 1 < logits(1e-12, 1e-9)["c"].scale * 2**26 < 1.01  # the least that a SOFTMAX takes
    assert logits(0.1, 5.1)["p"] == QuantParams(1 / 256, -128)


@pytest.mark.parametrize(("scale", "kept"), [(6 / 255, True), (6 / 2.0**30.9, True), (6 / 2.0**31.1, False)])
def test_the_bound_of_a_relu6_stays_while_its_steps_can_be_counted(scale, kept):
    op = weighted("conv", "v", "x", np.ones((1, 1, 2, 3)), activation="relu6")
    made = QuantizedGraph(gates(0.2).graph, {"v": QuantParams(scale, -128)}, {})
    assert with_countable_bound(op, made).activation == ("relu6" if kept else "relu")


def test_sums_of_16_bits_are_not_shifted_to_the_left():
    state = product({name: seen([0, 0], [1e-3, 1e-3]) for name in "cgm"})
    made = quantize_graph(state, UNIT_STEP, int16_outputs=frozenset("cgm"))
    for name in "cg":
        factor = made.int16_params["x"].scale * made.weights[name].scales.max() / made.int16_params[name].scale
        assert factor == pytest.approx(0.5)
    assert made.int16_params["c"].scale * made.int16_params["g"].scale / made.int16_params["m"].scale <= 0.5 * (
        1 + 1e-6
    )


def test_16_bits_of_a_product_a_sum_and_a_bounded_activation():
    read = {"c": INT16, "g": QuantParams(2.0, 0, "int16")}
    small, large = (CalibratedGraph(gates(0.2).graph, {"m": seen([0], [high])}, {}) for high in (1e-3, 1e6))
    two = ("c", "g")
    assert int16_output_params(Op("multiply", "m", two, "m"), small, read).scale == pytest.approx(1e-3 * 2 * 2)
    for op in (Op("add", "m", two, "m"), Op("add_constant", "m", ("g",), "m", offset=np.ones(1))):
        assert int16_output_params(op, small, read).scale == pytest.approx(2 / 8192)
        assert int16_output_params(op, large, read).scale == pytest.approx(2e6 / 32767)
    for activation, bound in (("relu6", 6), ("unit", 1)):
        op = Op("conv", "m", ("c",), "m", activation=activation)
        assert int16_output_params(op, large, read).scale == pytest.approx(bound / 32767)


def test_one_number_of_16_bits_has_no_axis():
    op = Op("add_constant", "a", ("c",), "a", offset=np.array([-3.0]))
    level, params = constant_levels(op, INT16)
    assert (np.shape(level), int(level), params.scale) == ((), -32767, np.float32(3 / 32767))


def test_noise_of_depthwise_weights_with_one_scale():
    writer = weighted("depthwise", "c", "x", np.array([[1.0, 2.0], [3.0, -4.0]]).reshape(2, 1, 2, 1))
    reader = weighted("conv", "r", "c", np.ones((1, 1, 2, 2)))
    graph = Graph("net", "x", "r", (writer, reader), dict.fromkeys("xcr", (1, 4, 4, 2)))
    x = seen([0, 0], [1, 1], mean=[0.5, 0], power=[0.5, 1])
    state = CalibratedGraph(graph, {"x": x, "c": seen([0, 0], [1, 1])}, {})
    made = RescalingNoise.of(state, ChannelGroup(("c",), 2), [reader], "per-tensor", 255)
    step = max(3 * 2, 4 * 0.5) / 127  # two weights a channel
    np.testing.assert_allclose(made.of_weights(writer, np.array([2.0, 0.5])), rounding(step) * 2 * np.array([0.25, 1]))


def test_a_half_of_negative_values_reaches_up_to_zero():
    sums = RangeAccumulator(1, keep_vectors=False)
    for values in ([-4.0, -4.0], [-3.0, -2.0]):
        sums.add(np.array([[values]], np.float32))
    assert sums.range().drift == pytest.approx(4 / 3 - 1)


def test_one_value_is_its_own_mean():
    sums = RangeAccumulator(1, keep_vectors=False)
    sums.add(np.array([[[4.0]]], np.float32))
    assert (sums.range().mean.tolist(), sums.range().power.tolist()) == ([4], [16])


def test_calibration_counts_its_images():
    graph, told = gates(0.2).graph, []
    observe(graph, [np.ones((1, 1, 1, 2), np.float32)] * 3, 3, lambda *step: told.append(step))
    assert told == [("calibrate", done, 3) for done in (1, 2, 3)]


def vector_behind(shape):
    conv = weighted("conv", "c", "x", np.ones((1, 1, 2, 2)))
    return Graph("net", "x", "r", (conv, Op("relu", "r", ("c",), "r")), dict.fromkeys("xcr", shape))


def test_a_block_ends_on_an_image_not_on_a_vector():
    assert float_outputs(vector_behind((1, 1, 2, 2)), 1, []) == {"c"}
    assert float_outputs(vector_behind((1, 1, 1, 2)), 1, []) == frozenset()


def swish(first, *readers):
    """x -> c (a convolution of kind `first`, or nothing) -> h-swish -> readers."""
    kernels = {"conv": np.ones((1, 1, 2, 2)), "depthwise": np.ones((1, 1, 2, 1))}
    ops = [weighted(first, "c", "x", kernels[first])] if first else []
    op = Op("hard_swish", "s", ("c" if first else "x",), "s")
    behind = [weighted(kind, f"r{at}", "s", kernels[kind]) for at, kind in enumerate(readers)]
    shapes = dict.fromkeys(("x", "c", "s", *(r.output for r in behind)), (1, 4, 4, 2))
    return Graph("net", "x", "s", (*ops, op, *behind), shapes), op


@pytest.mark.parametrize(
    ("first", "readers", "pays", "in_16_bits"),
    [
        ("conv", ("depthwise",), True, True),
        ("conv", ("depthwise", "conv"), False, True),
        ("conv", (), False, True),
        ("depthwise", ("depthwise",), False, False),
        (None, ("depthwise",), False, False),
    ],
)
def test_where_a_convolution_pays_twice(first, readers, pays, in_16_bits):
    assert duplication_pays(*swish(first, *readers)) is pays
    assert duplication_pays_int16(*swish(first, *readers)) is in_16_bits
