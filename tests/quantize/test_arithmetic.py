"""The quantizer's formulas, on numbers small enough to be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made import rounding, seen, weighted
from quantize_graphs import INPUT_PARAMS, Net, calibrated, images

from mbn_deploy.errors import UsageError
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantizedGraph, QuantParams, constant_levels
from mbn_deploy.quantize import ranges
from mbn_deploy.quantize.channel_groups import ChannelGroup, channel_groups
from mbn_deploy.quantize.int16 import int16_output_params, to_int16
from mbn_deploy.quantize.integers import MAX_BIAS, may_saturate, quantize_bias, quantize_graph, quantize_weights
from mbn_deploy.quantize.passes.absorb import (
    absorb,
    best_shift,
    centring_shifts,
    shift,
    shifted_span,
    squared_spans,
    sums_with_known_shifts,
)
from mbn_deploy.quantize.passes.bias import correct_biases, shrunk_mean, stored_inputs
from mbn_deploy.quantize.passes.bounds import fuse_bounds, split_relu6
from mbn_deploy.quantize.passes.equalize import FLOOR, MAX_FACTOR, candidate_factors, read_weight_spans, relative_spans
from mbn_deploy.quantize.passes.hard_swish import single_conv_noise
from mbn_deploy.quantize.passes.rescaling_noise import RescalingNoise
from mbn_deploy.quantize.passes.split import MAX_CHANNELS, MAX_PARTS, part_count
from mbn_deploy.quantize.ranges import CalibratedGraph, RangeAccumulator, vector_margin
from mbn_deploy.quantize.recipe import INT8, INT16, LADDER, MIXED

LEVELS, WEIGHT_MAX = 255, 127


def two_channels(reader, shapes=None):
    """x (3 channels) -> c (2 channels, ReLU) -> reader."""
    first = weighted("conv", "c", "x", np.array([[1, -2], [3, 1], [-1, 0.5]])[None, None], activation="relu")
    shapes = {"x": (1, 4, 5, 3), "c": (1, 4, 5, 2), reader.output: (1, 4, 5, 2)} | (shapes or {})
    return Graph("net", "x", reader.output, (first, reader), shapes)


POINTWISE = weighted("conv", "r", "c", np.array([[3.0, 1.0], [-4.0, 2.0]])[None, None])
DEPTHWISE = weighted("depthwise", "r", "c", np.array([[1.0, 2.0], [3.0, -4.0]]).reshape(2, 1, 2, 1))
C = seen([0, 0], [1, 2], mean=[0.5, 1.0], power=[0.5, 1.5])
FACTORS = np.array([2.0, 0.5])


def noise(graph, found, granularity, group=("c",)):
    state = CalibratedGraph(graph, found, {})
    readers = [op for op in graph.ops if op.inputs[0] in group and op.kind in ("conv", "depthwise")]
    return RescalingNoise.of(state, ChannelGroup(tuple(group), 2), readers, granularity, LEVELS).relative(FACTORS)


def test_noise_of_weights_with_a_scale_a_channel():
    value = rounding(max(1 * 2, 2 * 0.5) / LEVELS)  # 0 to the larger one of the scaled ranges
    from_values = (9 + 1) / 2**2 * value + (16 + 4) / 0.5**2 * value
    inputs = (0.5 - 0.25) * 2**2 + (1.5 - 1) * 0.5**2  # variances
    from_weights = (rounding(max(3 / 2, 4 / 0.5) / WEIGHT_MAX) + rounding(max(1 / 2, 2 / 0.5) / WEIGHT_MAX)) * inputs
    signal = (9 + 1) * 0.5 + (16 + 4) * 1.5
    expected = (from_values + from_weights) / signal
    assert noise(two_channels(POINTWISE), {"c": C}, "per-channel") == pytest.approx(expected)


def test_noise_of_depthwise_weights_with_a_scale_a_channel_is_that_of_the_values():
    value = rounding(2 / LEVELS)
    expected = ((1 + 9) / 4 + (4 + 16) / 0.25) * value / ((1 + 9) * 0.5 + (4 + 16) * 1.5)
    assert noise(two_channels(DEPTHWISE), {"c": C}, "per-channel") == pytest.approx(expected)


@pytest.mark.parametrize("known", [True, False])
def test_noise_of_weights_with_one_scale(known):
    picture = seen([-1] * 3, [1] * 3, mean=[0, 0, 0], power=[0.3, 0.6, 0.9])
    written = rounding(max(3 * 2, 2 * 0.5) / WEIGHT_MAX) * 3 * (0.6 if known else 1)  # 3 weights a value
    value = rounding(2 / LEVELS) + written
    inputs = 0.25 * 4 + 0.5 * 0.25
    from_values = ((9 + 1) / 4 + (16 + 4) / 0.25) * value
    from_weights = rounding(max(3 / 2, 4 / 0.5) / WEIGHT_MAX) * inputs * 2  # two outputs
    expected = (from_values + from_weights) / ((9 + 1) * 0.5 + (16 + 4) * 1.5)
    found = {"c": C} | ({"x": picture} if known else {})
    assert noise(two_channels(POINTWISE), found, "per-tensor") == pytest.approx(expected)


def test_noise_that_a_mean_and_a_gate_hand_on():
    pool = Op("global_average_pool", "p", ("c",), "p", keepdims=True)
    gated = Op("multiply", "m", ("c", "g"), "m")
    gate = weighted("conv", "g", "p", np.eye(2)[None, None], activation="unit")
    readers = [weighted("conv", name, source, np.eye(2)[None, None]) for name, source in (("rp", "p"), ("rm", "m"))]
    first = two_channels(POINTWISE).ops[0]
    small, full = (1, 1, 1, 2), (1, 4, 5, 2)
    shapes = {"x": (1, 4, 5, 3), "c": full, "p": small, "g": small, "m": full, "rp": small, "rm": full}
    graph = Graph("net", "x", "rm", (first, pool, gate, gated, *readers), shapes)
    g = seen([0, 0], [1, 1], power=[0.25, 0.5])
    found = {"c": C, "p": seen([0, 0], [0.5, 1]), "g": g, "m": seen([0, 0], [1, 1])}
    state = CalibratedGraph(graph, found, {})
    made = RescalingNoise.of(state, ChannelGroup(("c", "p", "m"), 2), [readers[0]], "per-channel", LEVELS)
    of_c = rounding(2 / LEVELS)
    np.testing.assert_allclose(made.in_values("p", FACTORS), rounding(1 / LEVELS) + of_c / (4 * 5))
    np.testing.assert_allclose(made.in_values("m", FACTORS), rounding(2 / LEVELS) + of_c * g.power)


def test_factors_that_are_tried():
    np.testing.assert_allclose(candidate_factors(np.array([1.0, 4.0, 16.0]), np.ones(3), 0.0), [0.25, 1, 4])
    np.testing.assert_allclose(candidate_factors(np.ones(3), np.array([1.0, 4.0, 16.0]), 0.5), [2, 1, 0.5])
    assert candidate_factors(np.array([1e-9, 1.0, 1e9]), np.ones(3), 0.0).tolist() == [1 / MAX_FACTOR, 1, MAX_FACTOR]


def test_spans_are_relative_and_have_a_floor():
    graph = two_channels(POINTWISE)
    state = CalibratedGraph(graph, {"c": seen([-1, 0], [3, 1e-9])}, {})
    for spans in relative_spans(state, ChannelGroup(("c",), 2), {"c"}):
        np.testing.assert_allclose(spans, [1, FLOOR])
    assert relative_spans(CalibratedGraph(graph, {"c": seen([0, 0], [0, 0])}, {}), ChannelGroup(("c",), 2), {"c"}) == []
    np.testing.assert_allclose(read_weight_spans([POINTWISE], 2, "per-channel"), [0.75, 1])
    np.testing.assert_allclose(read_weight_spans([DEPTHWISE], 2, "per-channel"), [1, 1])
    np.testing.assert_allclose(read_weight_spans([DEPTHWISE], 2, "per-tensor"), [0.75, 1])


def test_a_range_is_found_in_batches():
    sums = RangeAccumulator(2, keep_vectors=False)
    sums.add(np.array([[[1.0, 3.0], [-2.0, 0.0]]], np.float32))
    sums.add(np.array([[[2.0, 5.0], [-1.0, -3.0]]], np.float32))
    found = sums.range()
    assert found.low.tolist() == [1, -3]
    assert found.high.tolist() == [5, 0]
    assert found.mean.tolist() == [11 / 4, -6 / 4]
    assert found.power.tolist() == [39 / 4, 14 / 4]
    np.testing.assert_allclose(found.variance, [39 / 4 - (11 / 4) ** 2, 14 / 4 - (6 / 4) ** 2])
    assert found.drift == pytest.approx((5 + 3) / (3 + 2) - 1)


def test_one_batch_and_zeros_drift_by_nothing():
    one = RangeAccumulator(1, keep_vectors=False)
    one.add(np.ones((1, 1, 2), np.float32))
    none = RangeAccumulator(1, keep_vectors=False)
    none.add(np.zeros((1, 1, 2), np.float32))
    none.add(np.ones((1, 1, 2), np.float32))
    assert (one.range().drift, none.range().drift) == (0, 0)


def test_a_shifted_range():
    moved = seen([-1, 0], [2, 4], mean=[0.5, 1], power=[1.25, 3]).shifted(np.array([1.0, -2.0]))
    assert (moved.low.tolist(), moved.high.tolist(), moved.mean.tolist()) == ([-2, 2], [1, 6], [-0.5, 3])
    assert moved.power.tolist() == [1.25 - 1 + 1, 3 + 4 + 4]
    assert seen([-1, -5], [2, 4]).within(-2, 3).low.tolist() == [-1, -2]
    assert seen([-1, -5], [2, 4]).within(-2, 3).high.tolist() == [2, 3]


def test_the_least_number_of_vectors_that_have_a_margin():
    values = np.random.default_rng(0).standard_t(2, (8, 500))
    assert vector_margin(values[:7]) == 1
    assert vector_margin(values) > 1


def test_held_out_error_is_saturation_and_rounding():
    known, new = np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[3.0, 5.0], [1.0, 9.0]])
    # The channel's mean is 1, its span 2. With margin 1 the 3 lies 1 above; with 1.5 a half.
    for margin, above in ((1.0, 1.0), (1.5, 0.5), (2.0, 0.0)):
        expected = (above / 2) ** 2 / 2 + rounding(margin / LEVELS)
        assert ranges.held_out_error(known, new, margin) == pytest.approx(expected)


def test_samples_are_spread_over_images():
    graph = two_channels(POINTWISE)
    x = images(graph, 3)
    found = ranges.sample(graph, ["c", "r"], [image[None] for image in x])
    assert {name: values.size for name, values in found.items()} == {"c": 3 * 40, "r": 3 * 40}


def test_noise_and_spans_of_shifted_channels():
    graph = two_channels(POINTWISE)
    state = CalibratedGraph(graph, {"c": seen([1, -2], [3, 4]), "r": seen([2, 2], [3, 5])}, {})
    assert shifted_span(state, "c", np.zeros(1)) == 6
    assert shifted_span(state, "c", np.array([2.0, 1.0])) == 3 + 3
    assert shifted_span(state, "r", np.zeros(1)) == 5  # zero is always inside
    assert squared_spans(state, {"c": np.zeros(1), "r": np.zeros(1)}) == 6**2 + 5**2
    assert centring_shifts(state, ("c",))["c"].tolist() == [2, 1]


@pytest.mark.parametrize(("own", "total", "expected"), [(2.0, 0.0, [3, -3]), (0.0, 2.0, [1, -1])])
def test_a_shift_between_two_centres(own, total, expected):
    """Centres of 4 and -4 for the tensor itself, of 0 for the sum; the wider one has three quarters of the say."""
    found = {
        "c": seen([4 - own, -4 - own], [4 + own, -4 + own]),
        "s": seen([5 - total, 7 - total], [5 + total, 7 + total]),
    }
    state = CalibratedGraph(two_channels(POINTWISE), found, {})
    assert best_shift(state, "c", {"s": np.array([5.0, 7.0])}).tolist() == expected


def test_channels_in_the_middle_stay():
    """However little they span, and whatever another shift would cost."""
    first, reader = two_channels(POINTWISE).ops
    graph = two_channels(POINTWISE).with_ops((replace(first, activation="none"), reader))
    state = CalibratedGraph(graph, {"c": seen([-0.25, -0.125], [0.25, 0.125])}, {})
    assert shifted_span(state, "c", np.zeros(1)) == 0.5
    assert absorb(state) is state


def test_what_cancels_out_is_given_back_to_the_last_unit():
    window = weighted("conv", "c", "x", np.array([2.0**25, 1, -(2.0**25)]).reshape(1, 3, 1, 1))
    graph = Graph("net", "x", "c", (window,), {"x": (1, 4, 5, 1), "c": (1, 4, 3, 1)})
    assert shift(graph, {"x": np.array([3.0])}).ops[0].bias.tolist() == [3]


def test_noise_of_an_h_swish_with_a_single_convolution():
    source, result = seen([-9, -1], [6, 2]), seen([0, 0], [1, 1], mean=[0, 0], power=[1, 1e-9])
    step = (6 + 3) / LEVELS
    assert single_conv_noise(source, result) == pytest.approx((rounding(step) / 1 + 1) / 2)
    narrow = single_conv_noise(seen([-1, -2], [0, 1]), seen([0], [1], mean=[1], power=[3]))
    assert narrow == pytest.approx(rounding((1 + 2) / LEVELS) / 2)


def test_bias_integers_have_an_end():
    scales = np.array([0.5, 0.25], np.float32)
    assert quantize_bias(np.array([3.0, -3.0], np.float32), 0.5, scales).tolist() == [12, -24]
    assert quantize_bias(np.array([1e30, -1e30], np.float32), 0.5, scales).tolist() == [MAX_BIAS, -MAX_BIAS]


@pytest.mark.parametrize(
    ("activation", "off"), [("none", [0, 0]), ("relu", [1, 0]), ("relu6", [1, 1]), ("unit", [1, 1])]
)
def test_biases_that_an_activation_cuts_off(activation, off):
    op = weighted("conv", "c", "x", np.ones((1, 1, 1, 3)), activation=activation)
    assert may_saturate(op, np.array([-1.0, 1.0, 0.0], np.float32)).tolist() == [*map(bool, off), False]


def test_weight_integers():
    made = quantize_weights(weighted("conv", "c", "x", [[[[127.0, 0.0], [-50.4, 0.0]]]], bias=[2.0, 1.0]), 0.5)
    assert made.kernel.reshape(2, 2).tolist() == [[127, 0], [-50, 0]]
    assert made.scales.tolist() == [1, np.float32(1 / (MAX_BIAS * 0.5))]
    assert made.bias.tolist() == [4, MAX_BIAS]


def test_the_number_of_parts_of_a_vector():
    reader = weighted("conv", "r", "c", np.array([[0.3, 0.0], [0.4, 0.5]])[None, None], activation="unit")
    graph = two_channels(reader)
    state = CalibratedGraph(graph, {}, {})
    root = 0.5  # of the mean of 0.3^2 + 0.4^2 and 0.5^2
    for step, parts in ((0.9 / LEVELS, 1), (2.2 / LEVELS, 3), (100.0, MAX_PARTS)):
        assert (
            part_count(state, graph.ops[0], [reader], step) == parts == min(np.ceil(2 * root * step * 255), MAX_PARTS)
        )
    many = Graph("net", "x", "r", graph.ops, graph.shapes | {"c": (1, 1, 1, MAX_CHANNELS // 2)})
    assert part_count(CalibratedGraph(many, {}, {}), graph.ops[0], [reader], 100.0) == 2


def test_scales_of_16_bits():
    assert to_int16(QuantParams(0.5, -128)) == QuantParams(0.5 / 128, 0, "int16")
    op = two_channels(POINTWISE).ops[1]
    state = CalibratedGraph(two_channels(POINTWISE), {"r": seen([-5, 0], [1, 3])}, {})
    assert int16_output_params(op, state, {"c": to_int16(QuantParams(1e-3, 0))}).scale == np.float32(10 / 32767)


def test_constants_of_16_bits_and_on_a_grid():
    both = Op("add_constant", "a", ("c",), "a", offset=np.array([-2.0, 0.0, -1.0]))
    levels, params = constant_levels(both, QuantParams(0.1, 0, "int16"))
    assert (levels.tolist(), levels.dtype, params.scale) == ([-32767, 0, -16384], np.int16, np.float32(2 / 32767))
    levels, params = constant_levels(both, QuantParams(0.5, 3))
    assert (levels.tolist(), params) == ([123, 127, 125], QuantParams(0.5, 127))
    with pytest.raises(ValueError, match="op 'a'"):
        constant_levels(both, QuantParams(2 / 256, 3))
    assert constant_levels(both, QuantParams(2 / 255, 3))[0].min() == -128
    with pytest.raises(ValueError, match="op 'a'"):
        constant_levels(Op("add_constant", "a", ("c",), "a", offset=np.array([0.5, 0.0])), QuantParams(0.5, 3))


def test_groups_of_two_channels():
    assert channel_groups(two_channels(POINTWISE)) == [ChannelGroup(("c",), 2)]
    assert calibrated(two_channels(POINTWISE)).ranges["c"].low.min() >= 0


def test_sums_that_a_tensor_goes_into():
    readers = [Op("add", "s", ("a", "b"), "s"), Op("add", "t", ("a", "a"), "t"), POINTWISE]
    shifts = {"b": np.array([2.0]), "a": np.array([1.0])}
    assert sums_with_known_shifts(readers, "a", shifts) == {"s": shifts["b"], "t": shifts["a"]}
    assert sums_with_known_shifts(readers, "b", {"a": shifts["a"]})["s"] is shifts["a"]
    assert sums_with_known_shifts(readers, "a", {}) == {}


def test_corrections_are_shrunk_by_the_standard_error():
    errors = np.array([[1.0, 5.0], [3.0, -5.0]])  # means 2 and 0, squared standard errors 1 and 25
    assert shrunk_mean(errors).tolist() == [2 * (1 - 1 / 4), 0]
    assert shrunk_mean(errors[:1]).tolist() == [1, 5]
    three = np.array([[1.0], [3.0], [5.0]])  # a mean of 3, squared standard error 8 / 3 / 2
    np.testing.assert_allclose(shrunk_mean(three), 3 * (1 - 4 / 27))


def test_biases_are_corrected_in_front_of_a_reshape():
    net = Net()
    net.op("reshape", "flat", net.pool("mean", net.conv("c", "x", 4, activation="relu")), shape=(1, 4))
    graph = net.graph()
    x = images(graph)
    told = []
    made = correct_biases(quantize_graph(calibrated(graph, x), INPUT_PARAMS), x, lambda *step: told.append(step))
    assert made.weights["c"].bias.shape == (4,)
    assert told == [("correct biases", at, 3) for at in (1, 2, 3)]


def test_bounds_of_a_relu6():
    graph = two_channels(POINTWISE)
    first = replace(graph.ops[0], activation="relu6")
    freed = split_relu6(graph.with_ops((first, POINTWISE)))
    assert [op.kind for op in freed.ops] == ["conv", "bound", "conv"]
    assert freed.ops[0].activation == "relu"
    assert freed.ops[1].offset.tolist() == [6, 6]
    assert split_relu6(graph.with_ops((first, POINTWISE)), frozenset({"c"})).ops[0] is first
    state = CalibratedGraph(freed, {"c/unbounded": seen([0, 0], [9, 1]), "c": C, "r": C}, {})
    (bound, reader) = fuse_bounds(state).graph.ops
    assert (bound.activation, bound.output, reader.kind) == ("unit", "c", "conv")
    np.testing.assert_allclose(bound.kernel, first.kernel / 6, rtol=1e-6)
    np.testing.assert_allclose(reader.kernel, POINTWISE.kernel * 6, rtol=1e-6)
    dead = replace(state, ranges=state.ranges | {"c/unbounded": seen([0, 0], [0, 0])})
    np.testing.assert_array_equal(fuse_bounds(dead).graph.ops[0].kernel, first.kernel)
    freed = freed.with_ops((freed.ops[0], replace(freed.ops[1], offset=np.array([6.0, 3.0])), freed.ops[2]))
    narrow, back, _ = fuse_bounds(replace(state, graph=freed)).graph.ops
    assert (back.kind, back.activation) == ("add_constant", "relu")
    np.testing.assert_allclose(back.offset, [0, -128 / 255], rtol=1e-6)  # half of it, on the grid of 255 steps
    np.testing.assert_allclose(narrow.bias, [0, 128 / 255], rtol=1e-6)


def test_a_bound_is_that_of_the_largest_channel_and_scales_what_is_behind():
    graph = two_channels(POINTWISE)
    freed = split_relu6(graph.with_ops((replace(graph.ops[0], activation="relu6"), POINTWISE)))
    state = CalibratedGraph(freed, {"c/unbounded": seen([0, 0], [9, 0]), "c": C, "r": C}, {})
    made = fuse_bounds(state)
    np.testing.assert_allclose(made.graph.ops[0].kernel, graph.ops[0].kernel / 6, rtol=1e-6)
    np.testing.assert_allclose(made.ranges["c"].high, C.high / 6)
    np.testing.assert_allclose(made.ranges["c"].power, C.power / 36)
    assert made.ranges["r"] is C


def test_a_relu6_stays_where_not_only_convolutions_read_it():
    first = replace(two_channels(POINTWISE).ops[0], activation="relu6")
    total = Op("add", "s", ("c", "r"), "s")
    graph = Graph("net", "x", "s", (first, POINTWISE, total), two_channels(POINTWISE).shapes | {"s": (1, 4, 5, 2)})
    assert split_relu6(graph).ops == graph.ops


def test_zero_points_of_16_bits_are_zero():
    assert QuantParams(1.0, 0, "int16").limits == (-32768, 32767)
    graph = two_channels(POINTWISE)
    for point in (-1, 1):
        with pytest.raises(ValueError, match="'c'"):
            QuantizedGraph(graph, {}, {}, int16_params={"c": QuantParams(1.0, point, "int16")})


def test_an_op_reads_what_others_wrote_through_its_own_bits():
    names = ("real", "int16", "narrow")
    eighth, fine = QuantParams(1.0, 0), QuantParams(0.25, 0, "int16")
    made = QuantizedGraph(
        two_channels(POINTWISE), dict.fromkeys((*names, "y"), eighth), {}, frozenset({"real", "f"}),
        frozenset({"int16", "w"}), dict.fromkeys(names, fine),
    )  # fmt: skip
    values = dict.fromkeys(names, np.float32([0.4, 1.3]))
    read = {out: stored_inputs(made, Op("add", out, names, out), values) for out in ("y", "w", "f")}
    as_read = {out: [np.asarray(value).tolist() for value in found] for out, found in read.items()}
    kept = values["real"].tolist()
    assert as_read == {"y": [[0, 1], [0, 1], kept], "w": [[0.5, 1.25], kept, kept], "f": [kept] * 3}


def test_what_recipes_are_asked_by_and_called_mixed_for():
    assert (INT16.requested_precision, INT8.requested_precision, MIXED.requested_precision) == (
        "int16x8",
        "int8",
        "int8",
    )
    assert [step.float_blocks for step in LADDER] == [0, 0, 1, 0, 1, 3]
    for change in ({"float_blocks": 1}, {"float_layers": ("a",)}, {"int16_layers": ("a",)}):
        assert replace(INT8, **change).mixed
    assert not INT8.mixed
    assert replace(INT8, duplicate_threshold=0.0) != replace(INT8, duplicate_threshold=1.0)
    for change in ({"float_blocks": -1}, {"duplicate_threshold": -0.01}, {"duplicate_threshold": 1.01}):
        with pytest.raises(UsageError):
            replace(INT8, **change)
