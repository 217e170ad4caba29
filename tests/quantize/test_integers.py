"""From ranges to integers: parameters, weights, biases, range methods, ties; and recipes as values."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_graphs import INPUT_PARAMS, Net, calibrated, images, output

from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.tflite.delegate import probe_delegate
from mbn_deploy.export.tflite.writer import write_tflite_int8
from mbn_deploy.graph.quantized import INT8_MAX, INT8_MIN, WEIGHT_MAX, QuantParams
from mbn_deploy.quantize.integers import MAX_BIAS, MAX_MULTIPLIER, params_for, quantize_graph, quantize_weights
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.range_choice import least_mse_range
from mbn_deploy.quantize.recipe import FAST, INT8, LADDER, MIXED, RECIPES, recipe
from mbn_deploy.runtime.backends import open_backend

scales = st.floats(1e-4, 10).map(lambda s: float(np.float32(s)))
points = st.integers(INT8_MIN, INT8_MAX)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_parameters_cover_the_range_and_hit_zero(a, b):
    low, high = min(a, b), max(a, b)
    params = params_for(low, high)
    assert INT8_MIN <= params.zero_point <= INT8_MAX
    reached = params.range
    slack = 0.5001 * params.scale  # the zero point is an integer
    assert reached[0] <= min(low, 0) + slack
    assert reached[1] >= max(high, 0) - slack


def test_clean_ranges():
    assert params_for(0, 6) == QuantParams(float(np.float32(6 / 255)), -128)
    assert params_for(-3, 0).zero_point == 127
    assert params_for(0, 0) == params_for(0, 1)
    assert params_for(1e-42, 1e-41) == params_for(0, 1)


@pytest.mark.parametrize(("scale", "point"), [(0.0, 0), (-1.0, 0), (float("inf"), 0), (float("nan"), 0), (1.0, 128)])
def test_impossible_parameters_are_refused(scale, point):
    with pytest.raises(ValueError, match=rf"{scale}.* {point}$"):
        QuantParams(scale, point)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-8, 0), st.floats(0.01, 8))
def test_what_is_kept_is_a_part_of_the_range_with_zero_inside(seed, low, high):
    values = np.random.default_rng(seed).standard_t(3, 400).clip(low, high)
    kept = least_mse_range(values, (low, high))
    assert low <= kept[0] <= 0 <= kept[1] <= high
    assert kept[1] > kept[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-8, 8))
def test_the_unit_of_values_does_not_matter(seed, power):
    values = np.random.default_rng(seed).standard_t(3, 400)
    full = (float(values.min()), float(values.max()))
    factor = 2.0**power
    scaled = least_mse_range(values * factor, (full[0] * factor, full[1] * factor))
    np.testing.assert_allclose(scaled, np.array(least_mse_range(values, full)) * factor, rtol=1e-9)


def rounding_error(values, low, high):
    params = params_for(low, high)
    levels = np.clip(np.rint(values / params.scale) + params.zero_point, INT8_MIN, INT8_MAX)
    return float(np.square((levels - params.zero_point) * params.scale - values).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(2.5, 30))
def test_mse_is_no_worse_than_min_max(seed, freedom):
    values = np.random.default_rng(seed).standard_t(freedom, 2000)
    full = (float(values.min()), float(values.max()))
    # The method leaves the zero point its fraction, which costs a part of a step at one end.
    assert rounding_error(values, *least_mse_range(values, full)) <= 1.1 * rounding_error(values, *full)


def test_a_lone_outlier_is_cut_off():
    values = np.append(np.random.default_rng(0).normal(0, 1, 100_000), 60.0)
    low, high = least_mse_range(values, (float(values.min()), 60.0))
    assert high < 56
    assert low > -5


def test_what_is_spread_evenly_is_kept():
    values = np.random.default_rng(0).uniform(0, 4, 20_000)
    assert least_mse_range(values, (0.0, 4.0))[1] > 3.8


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-12, 3), st.floats(-3, 4), st.sampled_from(["per-channel", "per-tensor"]))
def test_weights_and_biases_fit_their_integers(seed, weight_power, bias_power, granularity):
    rng = np.random.default_rng(seed)
    net = Net()
    net.conv("c", "x", 6)
    op = net.graph().ops[0]
    sizes = np.float32(10.0 ** (weight_power * rng.uniform(0, 1, 6)))
    op = replace(op, kernel=op.kernel * sizes, bias=(op.bias * 10.0**bias_power).astype(np.float32))
    made = quantize_weights(op, INPUT_PARAMS.scale, granularity)
    assert np.abs(made.kernel.astype(int)).max() <= WEIGHT_MAX
    assert np.abs(made.bias.astype(np.int64)).max() <= MAX_BIAS * 1.001
    unit = np.float64(INPUT_PARAMS.scale) * made.scales
    assert (np.abs(made.bias * unit - op.bias) <= 0.51 * unit + 1e-6 * np.abs(op.bias)).all()
    assert (np.abs(made.kernel * made.scales - op.kernel) <= 0.501 * made.scales).all()
    assert made.per_tensor is (granularity == "per-tensor")
    assert (len(set(made.scales)) == 1) or not made.per_tensor


def test_a_channel_of_zeros_keeps_its_bias():
    net = Net()
    net.conv("c", "x", 3)
    op = net.graph().ops[0]
    op = replace(op, kernel=op.kernel * np.float32([0, 1, 0]), bias=np.float32([2.5, 0.1, 0]))
    made = quantize_weights(op, INPUT_PARAMS.scale)
    assert not made.kernel[..., 0].any()
    np.testing.assert_allclose(made.bias * (INPUT_PARAMS.scale * made.scales), op.bias, atol=1e-3)


def nearly_dead(reach, channels=None):
    """Squeeze-and-excitation whose reduced vector never exceeds `reach`: V3-Small's sixth block has 2e-6."""
    net = Net()
    net.conv("head", net.squeeze("se", net.conv("c", "x", 8, activation="relu")), 5)
    graph = absorb_hard_sigmoids(net.graph())
    peak = np.abs(images(graph)).max()
    ops = []
    for op in graph.ops:
        if op.output == "se/reduce":
            most = np.abs(op.kernel).sum((0, 1, 2)) * 3 * peak
            small = np.arange(op.bias.size) < (op.bias.size if channels is None else channels)
            kernel = np.where(small, op.kernel * (reach / most), op.kernel).astype(np.float32)
            op = replace(op, kernel=kernel, bias=np.where(small, 0, op.bias).astype(np.float32))  # noqa: PLW2901
        ops.append(op)
    return graph.with_ops(ops)


def multipliers(made):
    for op in made.graph.weighted():
        yield made.activations[op.inputs[0]].scale * made.weights[op.name].scales / made.activations[op.output].scale


@pytest.mark.parametrize("reach", [0.0, 1e-30, 2e-6, 1e-3])
def test_dead_layers_load_under_xnnpack_and_answer_right(reach, tmp_path):
    graph = nearly_dead(reach)
    x = images(graph)
    made = quantize_graph(calibrated(graph, x), INPUT_PARAMS)
    assert max(m.max() for m in multipliers(made)) < 256
    check_answers(graph, made, x, tmp_path)


def test_a_tiny_range_behind_large_weights_is_widened(tmp_path):
    """The 8e-9 of V3-Small: all that the layer makes is cut off by its ReLU, but for a hair."""
    graph = nearly_dead(0.0)
    ops = [
        replace(op, kernel=np.full_like(op.kernel, -1.0), bias=np.full_like(op.bias, 2e-6))
        if op.output == "se/reduce"
        else op
        for op in graph.ops
    ]
    graph = graph.with_ops(ops)
    state = calibrated(graph)
    hair = replace(state.ranges["se/reduce"], high=np.full(4, 255 * 8e-9))
    made = quantize_graph(replace(state, ranges=state.ranges | {"se/reduce": hair}), INPUT_PARAMS)
    unbounded = made.activations["se/pool"].scale * made.weights["se/reduce"].scales / 8e-9
    assert unbounded.max() > 256, "the file would load anyway, so nothing is tested"
    assert max(m.max() for m in multipliers(made)) <= MAX_MULTIPLIER * 1.001
    check_answers(graph, made, images(graph), tmp_path)


def test_near_dead_channels_beside_large_biases_do_not_overflow(tmp_path):
    graph = nearly_dead(1e-7, channels=2)
    ops = [
        replace(op, bias=np.where(np.arange(op.bias.size) < 2, 3.0, op.bias).astype(np.float32))
        if op.output == "se/reduce" else op
        for op in graph.ops
    ]  # fmt: skip
    graph = graph.with_ops(ops)
    x = images(graph)
    made = quantize_graph(calibrated(graph, x), INPUT_PARAMS)
    weights, op = made.weights["se/reduce"], graph.writers()["se/reduce"]
    overflowing = op.bias / (made.activations["se/pool"].scale * np.abs(op.kernel).max((0, 1, 2)) / WEIGHT_MAX)
    assert np.abs(overflowing[:2]).min() > 2**31, "the bias would fit anyway, so nothing is tested"
    np.testing.assert_allclose(
        weights.bias * (np.float64(made.activations["se/pool"].scale) * weights.scales), op.bias, rtol=1e-4, atol=1e-4
    )
    check_answers(graph, made, x, tmp_path)


def check_answers(graph, made, x, folder):
    """Both files open in their interpreters, TFLite as one partition, and answer as the float graph."""
    expected = output(graph, x)
    path = folder / "made.tflite"
    path.write_bytes(write_tflite_int8(made, input_dtype="int8"))
    report = probe_delegate(path)
    assert (report.error, report.partitions, report.outside) == (None, 1, ())
    params = made.activations[graph.output]
    shift = 128 + made.activations[graph.input].zero_point
    pixels = np.clip(np.rint(x / made.activations[graph.input].scale) + shift, 0, 255).astype(np.uint8)
    tflite, onnx = open_backend(path, "tflite", threads=1), open_backend(write_onnx_int8(made), "onnx", threads=1)
    for image, wanted in zip(pixels, expected, strict=True):
        got = tflite.run((image[None].astype(int) - 128).astype(np.int8))
        real = (got.astype(int) - params.zero_point) * params.scale
        assert np.abs(real - wanted).max() <= max(3 * params.scale, 0.05 * np.ptp(expected))
        other = onnx.run(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        assert np.abs(other.transpose(0, 2, 3, 1) - real).max() <= 1.01 * params.scale


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_found_by_its_name_and_has_a_json_form(name):
    assert recipe(name).name == name
    own = replace(recipe(name), float_layers=("a", "b"))
    assert own.mixed
    assert json.loads(json.dumps(own.to_dict())) == asdict(own) | {"float_layers": ["a", "b"], "int16_layers": []}


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"granularity": "per-chanel"}, UnknownNameError, "per-channel"),
        ({"hard_swish": "single"}, UnknownNameError, "single_conv"),
        ({"ranges": "minmax"}, UnknownNameError, "min-max"),
        ({"activations": "int4"}, UnknownNameError, "int8"),
        ({"float_blocks": -1}, UsageError, "float_blocks"),
        ({"duplicate_threshold": -0.01}, UsageError, "duplicate_threshold"),
        ({"duplicate_threshold": 1.01}, UsageError, "duplicate_threshold"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change, error, says):
    with pytest.raises(error, match=says):
        replace(INT8, **change)


def test_an_unknown_recipe_is_answered_with_near_names():
    with pytest.raises(UnknownNameError, match="int8-mixed"):
        recipe("int8-mixd")


def test_the_ladder_begins_with_integers_and_its_names_say_what_is_mixed():
    assert LADDER[:2] == (FAST, INT8)
    assert all(("mixed" in r.name) is r.mixed for r in LADDER)
    assert MIXED in LADDER
