"""Conditioning: equalization, split vectors, margins and corrected biases do what they say, and the function stays."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from graph_reference import run_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_graphs import INPUT_PARAMS, Net, assert_same, calibrated, demo_graph, images, integers, output
from scramble import LIMIT, scramble

from mbn_deploy.quantize.channel_groups import channel_groups, rescale
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.passes import bias
from mbn_deploy.quantize.passes.bias import correct_biases, shrunk_mean
from mbn_deploy.quantize.passes.equalize import equalize
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.passes.split import MAX_PARTS, split_vectors
from mbn_deploy.quantize.ranges import MARGINS, ChannelRange, observe, vector_margin


def chain():
    """Two residual additions in a row, as in V2: linear tensors that share their channels."""
    net = Net()
    first = net.conv("stem", "x", 6, gain=2)
    for at in (1, 2):
        inner = net.depthwise(f"d{at}", net.conv(f"expand{at}", first, 12, activation="relu6"), "relu6")
        first = net.op("add", f"sum{at}", first, net.conv(f"project{at}", inner, 6))
    net.conv("head", first, 5)
    return net.graph()


def relu_pair():
    net = Net()
    net.conv("head", net.depthwise("d", net.conv("c", "x", 16, activation="relu"), "relu"), 5)
    return net.graph()


def squeezed(gain=1.0):
    net = Net()
    net.conv("head", net.squeeze("se", net.conv("c", "x", 8, activation="relu"), gain=gain), 5)
    return absorb_hard_sigmoids(net.graph())


GRAPHS = (chain, relu_pair, squeezed)


def error(graph, state, x):
    """Root mean square of what int8 does to the output, relative to the output's own."""
    made = quantize_graph(state, INPUT_PARAMS)
    expected, got = output(graph, x), integers(made, x)[graph.output]
    return float(np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()))


@pytest.mark.parametrize("make", GRAPHS)
def test_groups_may_be_multiplied_by_anything(make):
    graph = make()
    groups = channel_groups(graph)
    assert groups
    rng = np.random.default_rng(4)
    for group in groups:
        changed = rescale(graph, group, np.exp2(rng.uniform(-6, 6, group.channels)))
        assert_same(graph, changed)
        before, after = (run_graph(g, images(graph)) for g in (graph, changed))
        moved = {name for name in before if not np.allclose(before[name], after[name], atol=1e-3)}
        assert moved == set(group.tensors)


def test_a_residual_chain_is_one_group():
    groups = [set(group.tensors) for group in channel_groups(chain())]
    assert groups == [{"stem", "sum1", "project1", "sum2", "project2"}]


def test_relu6_sigmoid_softmax_input_and_output_are_in_no_group():
    graph = squeezed()
    found = {name for group in channel_groups(graph) for name in group.tensors}
    assert found == {"c", "se", "se/pool", "se/reduce"}
    assert not {name for group in channel_groups(chain()) for name in group.tensors} & {"expand1", "d1", "x", "head"}


@pytest.mark.parametrize("make", GRAPHS)
def test_equalization_keeps_function_and_undoes_a_scrambling(make):
    graph = make()
    mixed = scramble(graph, seed=2)
    assert_same(graph, mixed)
    x = images(graph, 24)
    made = equalize(calibrated(mixed, x))
    assert_same(graph, made.graph)
    plain, scrambled = error(graph, calibrated(graph, x), x), error(graph, calibrated(mixed, x), x)
    assert scrambled > 2 * plain, "int8 does not suffer from it, so nothing is tested"
    assert error(graph, made, x) < 1.3 * plain


@pytest.mark.parametrize("make", GRAPHS)
def test_ranges_after_equalization_are_those_of_the_graph(make):
    graph = scramble(make(), seed=3)
    x = images(graph)
    state = equalize(calibrated(graph, x))
    seen = observe(state.graph, [image[None] for image in x], len(x))
    for name, found in seen.items():
        step = np.ptp([found.low.min(), found.high.max()])
        known = state.ranges[name]
        # A vector's margin was chosen before, from the values as they were.
        for mine, theirs in ((known.low, found.low), (known.high, found.high)):
            assert np.abs(mine - theirs).max() <= (0.1 if "se" in name else 1e-4) * step, name


def test_what_relu6_bounds_keeps_its_six():
    graph = chain()
    state = equalize(calibrated(graph))
    before, after = run_graph(graph, images(graph)), run_graph(state.graph, images(graph))
    bounded = [op.output for op in graph.ops if op.activation == "relu6"]
    for name in bounded:
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)
    assert len(bounded) == 4
    assert max(after[name].max() for name in bounded) == 6


def test_residual_chains_get_one_factor_a_channel():
    graph = scramble(chain(), seed=5)
    state = equalize(calibrated(graph))
    factors = [state.ranges[n].power / calibrated(graph).ranges[n].power for n in ("stem", "sum1", "sum2", "project2")]
    assert np.ptp(factors[0]) > 1, "nothing was equalized, so nothing is tested"
    for other in factors[1:]:
        np.testing.assert_allclose(other, factors[0], rtol=1e-3)


def test_channels_that_are_always_zero_do_not_disturb():
    graph = relu_pair()
    kernel, bias = graph.ops[0].weights()
    live = np.arange(bias.size) % 3 > 0
    dead = replace(graph.ops[0], kernel=kernel * live, bias=(bias * live - 0.1 * ~live).astype(np.float32))
    graph = graph.with_ops((dead, *graph.ops[1:]))
    state = equalize(calibrated(graph))
    assert_same(graph, state.graph)
    assert all(np.isfinite(op.kernel).all() and np.isfinite(op.bias).all() for op in state.graph.weighted())
    assert error(graph, state, images(graph)) < 0.05


def test_a_layer_that_is_always_zero_stays_as_it_is():
    graph = relu_pair()
    dead = replace(graph.ops[0], bias=np.full(16, -50, np.float32))
    graph = graph.with_ops((dead, *graph.ops[1:]))
    state = equalize(calibrated(graph))
    for before, after in zip(graph.ops, state.graph.ops, strict=True):
        if before.output in ("c", "d"):
            assert np.isfinite(after.kernel).all()
    np.testing.assert_allclose(output(state.graph, images(graph)), output(graph, images(graph)), atol=1e-5)


@pytest.mark.parametrize("gain", [1.0, 40.0])
def test_split_vectors_keep_the_function_on_what_was_seen(gain):
    graph = squeezed(gain)
    x = images(graph, 24)
    state = split_vectors(calibrated(graph, x))
    assert_same(graph, state.graph, x)
    parts = state.graph.shapes["se/reduce"][-1] / graph.shapes["se/reduce"][-1]
    assert parts <= MAX_PARTS
    if gain > 1:
        assert parts > 1
        seen = run_graph(state.graph, x)["se/reduce"]
        assert seen.min() >= 0
        assert seen.max() <= 1
        assert state.ranges["se/reduce"].high.max() <= 1
        assert error(graph, state, x) <= error(graph, calibrated(graph, x), x)


def test_vectors_that_compute_in_float_stay_whole():
    graph = squeezed(40.0)
    state = calibrated(graph)
    assert split_vectors(state, frozenset({"se/reduce"})) is state
    assert split_vectors(state) is not state


def test_a_dead_vector_is_not_split():
    graph = squeezed(40.0)
    ops = [replace(op, bias=op.bias - 1e4) if op.output == "se/reduce" else op for op in graph.ops]
    state = calibrated(graph.with_ops(ops))
    assert split_vectors(state) is state


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(1e-6, 1e6))
def test_margins_are_bounded_and_know_no_unit(seed, count, scale):
    values = np.random.default_rng(seed).standard_normal((count, 7))
    margin = vector_margin(values)
    assert MARGINS[0] <= margin <= MARGINS[-1]
    assert vector_margin(values * scale) == margin
    if count < 8:
        assert margin == 1


def test_margins_follow_the_tails():
    rng = np.random.default_rng(0)
    bounded, tailed = rng.uniform(-1, 1, (200, 64)), rng.standard_t(4, (200, 64))
    assert vector_margin(bounded) < vector_margin(tailed)
    assert vector_margin(np.ones((40, 3))) == 1


def test_only_vectors_get_a_margin_and_zero_stays_a_bound():
    graph = squeezed()
    x = images(graph, 40)
    seen, found = run_graph(graph, x), calibrated(graph, x).ranges
    for name in ("c", "se"):
        np.testing.assert_allclose(found[name].high, seen[name].max((0, 1, 2)), rtol=1e-5)
    for name in ("se/pool", "se/reduce"):
        assert found[name].low.min() >= 0
        assert (found[name].high >= seen[name].max((0, 1, 2)) * (1 - 1e-6)).all()


def mean_errors(made, x, wanted):
    """By tensor, how far the mean of each channel lies from that in float, in steps of the tensor."""
    found = integers(made, x)
    clipped = {name: np.clip(wanted[name], *made.activations[name].range) for name in ("c", "d", "head")}
    return {n: np.abs((found[n] - c).mean((0, 1, 2))) / made.activations[n].scale for n, c in clipped.items()}


def test_corrected_biases_make_channel_means_equal():
    graph = relu_pair()
    x = images(graph, 64)
    made = quantize_graph(calibrated(graph, x), INPUT_PARAMS)
    rng = np.random.default_rng(0)
    shifted = {}
    for op in graph.weighted():
        weights, source = made.weights[op.name], made.activations[op.inputs[0]]
        steps = rng.uniform(3, 9, weights.bias.size) * made.activations[op.output].scale
        moved = np.rint(steps / (np.float64(source.scale) * weights.scales)).astype(np.int32)
        shifted[op.name] = replace(weights, bias=weights.bias + moved)
    made = replace(made, weights=shifted)
    wanted = run_graph(graph, x)
    fixed = correct_biases(made, x)
    assert all(errors.max() > 1.5 for errors in mean_errors(made, x, wanted).values())
    assert all(errors.max() < 0.4 for errors in mean_errors(fixed, x, wanted).values())
    assert all((fixed.weights[n].kernel == made.weights[n].kernel).all() for n in made.weights)


def test_corrected_biases_take_back_the_mean_of_coarse_weights():
    graph = relu_pair()
    x = np.abs(images(graph, 256))  # the errors of coarse weights have a mean if their inputs do
    made = quantize_graph(calibrated(graph, x), INPUT_PARAMS)
    coarse = {n: replace(w, kernel=(np.rint(w.kernel / 16.0) * 16).astype(np.int8)) for n, w in made.weights.items()}
    made = replace(made, weights=coarse)
    wanted = run_graph(graph, x)
    before, after = mean_errors(made, x, wanted), mean_errors(correct_biases(made, x), x, wanted)
    for name, errors in before.items():
        assert np.sqrt((after[name] ** 2).mean()) < 0.5 * np.sqrt((errors**2).mean()), name


def test_biases_of_weights_that_were_not_rounded_hardly_change():
    graph = relu_pair()
    x = images(graph, 64)
    made = quantize_graph(calibrated(graph, x), INPUT_PARAMS)
    fixed = correct_biases(made, x)
    for op in graph.weighted():
        unit = made.activations[op.inputs[0]].scale * made.weights[op.name].scales
        moved = (fixed.weights[op.name].bias - made.weights[op.name].bias) * unit
        assert np.abs(moved).max() < 4 * made.activations[op.output].scale


@pytest.mark.parametrize("make", GRAPHS)
def test_biases_are_those_of_all_images_at_once(make, monkeypatch):
    graph = make()
    x = images(graph, 21)
    made = quantize_graph(calibrated(graph, x), INPUT_PARAMS)
    found = []
    for part in (4, 21):
        monkeypatch.setattr(bias, "PART", part)
        found.append(correct_biases(made, x).weights)
    for name, weights in found[0].items():
        np.testing.assert_allclose(weights.bias, found[1][name].bias, atol=1)  # sums in another order
    assert any((found[0][name].bias != weights.bias).any() for name, weights in made.weights.items())


def test_biases_are_corrected_in_little_memory():
    """Input and result of one op, in float and in integers, of all images: what other ops made is given back."""
    net = Net((1, 16, 16, 8))
    name = "x"
    for at in range(12):
        name = net.conv(f"c{at}", name, 8, activation="relu")
    graph = net.graph()
    x = images(graph, 64)
    made = quantize_graph(calibrated(graph, x[:2]), INPUT_PARAMS)
    correct_biases(made, x[:2])  # TensorFlow is imported
    tracemalloc.start()
    try:
        correct_biases(made, x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * x.nbytes  # the images stay with the caller


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(-3, 3))
def test_corrections_are_drawn_towards_zero_and_never_past_it(seed, count, shift):
    errors = np.random.default_rng(seed).standard_normal((count, 9)) + shift
    shrunk, mean = shrunk_mean(errors), errors.mean(0)
    assert (shrunk * mean >= 0).all()
    assert (np.abs(shrunk) <= np.abs(mean) + 1e-12).all()


def test_what_all_images_share_is_corrected_wholly_and_chance_is_not():
    np.testing.assert_allclose(shrunk_mean(np.full((16, 3), 0.7)), 0.7)
    noise = np.random.default_rng(0).standard_normal((30, 2000))
    assert np.square(shrunk_mean(noise)).mean() < 0.4 * np.square(noise.mean(0)).mean()
    assert not shrunk_mean(np.zeros((5, 2))).any()


def test_a_range_follows_its_factors():
    found = ChannelRange(np.array([-1.0, 0.0]), np.array([2.0, 4.0]), np.array([0.5, 1.0]), np.array([1.25, 2.0]))
    scaled = found.scaled(np.array([2.0, 0.5]))
    np.testing.assert_allclose([scaled.low, scaled.high], [[-2, 0], [4, 2]])
    np.testing.assert_allclose(scaled.variance, found.variance * [4, 0.25])


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_a_scrambled_network_computes_the_same(name):
    graph, _ = demo_graph(name)
    mixed = scramble(graph, seed=1)
    assert_same(graph, mixed)
    moved = [
        a for a, b in zip(graph.ops, mixed.ops, strict=True) if a.kernel is not None and (a.kernel != b.kernel).any()
    ]
    assert bool(moved) is (name != "mobilenet_v1")  # in V1 every channel is bounded by 6
    for before, after in zip(graph.weighted(), mixed.weighted(), strict=True):
        live = before.bias != 0
        ratios = after.bias[live] / before.bias[live]
        assert ratios.size == 0 or (ratios.max() <= LIMIT * 1.001 and ratios.min() >= 0.999 / LIMIT)
