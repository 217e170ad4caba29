"""High-bias absorption: ranges shrink, the float function stays, and what cannot move does not."""

from dataclasses import replace

import numpy as np
import pytest
from graph_reference import run_graph
from quantize_graphs import INPUT_PARAMS, PLAIN_PREPROCESS, Net, assert_same, calibrated, images, integers, output

from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.passes.absorb import absorb, movable, shift
from mbn_deploy.quantize.passes.bounds import fuse_bounds
from mbn_deploy.quantize.passes.equalize import equalize
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.ranges import observe
from mbn_deploy.quantize.recipe import INT8, PLAIN


def biased(graph, names, size=4.0, seed=7):
    """`graph` with biases of random size in the layers `names`: channels that lie far apart."""
    rng = np.random.default_rng(seed)

    def far(op):
        return replace(op, bias=(size * rng.uniform(-1, 1, op.bias.size)).astype(np.float32))

    return graph.with_ops(far(op) if op.output in names else op for op in graph.ops)


def chain():
    """Linear tensors of a V2: two sums, each read by an expansion, the last one by the head."""
    net = Net()
    first = net.conv("stem", "x", 6)
    for at in (1, 2):
        inner = net.depthwise(f"d{at}", net.conv(f"expand{at}", first, 12, activation="relu6"), "relu6")
        first = net.op("add", f"sum{at}", first, net.conv(f"project{at}", inner, 6))
    net.conv("head", net.pool("pool", first), 5)
    return biased(net.graph(), {"stem", "project1", "project2"})


CHAIN = {"stem", "sum1", "project1", "sum2", "project2", "pool"}


def read_by(make):
    """A linear tensor `c` with channels far apart, and what `make` puts behind it, with a head."""
    net = Net()
    net.conv("head", make(net, net.conv("c", "x", 6)), 5)
    return biased(net.graph(), {"c"})


def span(state, name):
    return float(max(state.ranges[name].high.max(), 0) - min(state.ranges[name].low.min(), 0))


def moved(graph, other):
    """Tensors that are other values in `other`."""
    before, after = (run_graph(g, images(graph)) for g in (graph, other))
    return {name for name in before if not np.allclose(before[name], after[name], atol=1e-3)}


def test_a_residual_chain_is_one_set_and_moves_without_changing_the_function():
    graph = chain()
    (names,) = movable(graph)
    assert set(names) == CHAIN
    state = absorb(calibrated(graph))
    assert_same(graph, state.graph)
    assert moved(graph, state.graph) == CHAIN


def test_any_shift_that_adds_up_keeps_the_function():
    graph = chain()
    rng = np.random.default_rng(3)
    shifts = {name: rng.normal(0, 5, 6) for name in ("stem", "project1", "project2")}
    shifts["sum1"] = shifts["stem"] + shifts["project1"]
    shifts["sum2"] = shifts["pool"] = shifts["sum1"] + shifts["project2"]
    changed = shift(graph, shifts)
    assert_same(graph, changed)
    before, after = (run_graph(g, images(graph)) for g in (graph, changed))
    for name, constants in shifts.items():
        np.testing.assert_allclose(
            before[name] - after[name], np.broadcast_to(constants, before[name].shape), atol=1e-4
        )


def test_ranges_shrink_and_are_those_of_the_graph():
    graph = chain()
    x = images(graph)
    plain, state = calibrated(graph, x), absorb(calibrated(graph, x))
    for name in CHAIN - {"pool"}:
        assert span(state, name) < 0.9 * span(plain, name), name
    seen = observe(state.graph, [image[None] for image in x], len(x))
    for name in CHAIN - {"pool"}:  # a vector's margin is chosen from the values as they were
        for field in ("low", "high", "mean", "power"):
            known, found = getattr(state.ranges[name], field), getattr(seen[name], field)
            np.testing.assert_allclose(known, found, atol=1e-3, err_msg=f"{name} {field}")


def test_a_lone_tensor_is_centred():
    graph = read_by(lambda net, c: net.conv("e", c, 8, activation="relu"))
    state = absorb(calibrated(graph))
    seen = state.ranges["c"]
    np.testing.assert_allclose(seen.low, -seen.high, atol=1e-5)
    assert span(state, "c") == pytest.approx(np.max(seen.high - seen.low), rel=1e-5)


def test_unpadded_windows_and_depthwise_layers_give_back():
    def valid(net, c):
        made = net.depthwise("d", c)
        net.ops[-1] = replace(net.ops[-1], pads=(0, 0, 0, 0))
        net.shapes[made] = (1, 6, 6, 6)
        made = net.conv("e", made, 4, size=3)
        net.ops[-1] = replace(net.ops[-1], pads=(0, 0, 0, 0))
        net.shapes[made] = (1, 4, 4, 4)
        return made

    graph = biased(read_by(valid), {"c", "d", "e"})
    state = absorb(calibrated(graph))
    assert_same(graph, state.graph)
    assert moved(graph, state.graph) == {"c", "d", "e"}


STAYS = {
    "padded": lambda net, c: net.depthwise("d", c),
    "a pad": lambda net, c: net.op("pad", "p", c, shape=(1, 10, 10, 6), pads=(1, 1, 1, 1)),
    "a gate": lambda net, c: net.squeeze("se", c),
    "h-swish": lambda net, c: net.op("hard_swish", "h", c),
    "a sum that is clipped": lambda net, c: net.op("add", "s", c, net.conv("b", "x", 6), activation="relu"),
    "padded and unpadded": lambda net, c: net.op(
        "add", "s", net.conv("b", c, 6), net.depthwise("d", c), activation="relu"
    ),
}


@pytest.mark.parametrize("make", STAYS.values(), ids=STAYS)
def test_what_cannot_move_stays(make):
    graph = read_by(make)
    assert not any("c" in names for names in movable(graph))
    assert "c" not in moved(graph, absorb(calibrated(graph)).graph)


def test_outputs_of_relu_inputs_and_outputs_stay():
    net = Net()
    net.conv("head", net.conv("c", "x", 6, activation="relu"), 5)
    graph = biased(net.graph(), {"c", "head"})
    assert movable(graph) == []
    state = calibrated(graph)
    assert absorb(state) is state


def test_where_nothing_shrinks_nothing_moves():
    graph = read_by(lambda net, c: net.conv("e", c, 8))
    (state,) = (absorb(calibrated(graph)),)
    again = absorb(state)
    np.testing.assert_allclose(again.ranges["c"].low, state.ranges["c"].low, atol=1e-4)
    assert_same(graph, again.graph)


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
def test_int8_is_closer_with_it_alone_and_before_equalization(granularity):
    graph = chain()
    x = images(graph, 24)
    expected = output(graph, x)

    def error(state):
        made = quantize_graph(fuse_bounds(state), INPUT_PARAMS, granularity=granularity)
        return float(np.sqrt(((integers(made, x)[graph.output] - expected) ** 2).mean()))

    plain = calibrated(graph, x)
    assert error(absorb(plain)) < 0.9 * error(plain)
    assert error(equalize(absorb(plain), granularity)) < 0.95 * error(equalize(plain, granularity))


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
def test_it_is_a_step_of_recipes(granularity):
    assert INT8.absorb
    assert not PLAIN.absorb
    graph = chain()
    pixels = np.rint(127.5 * (images(graph, 16) + 1)).astype(np.uint8)
    calibration = CalibrationSet(pixels, tuple(map(str, range(len(pixels)))), "0" * 64)
    recipe = replace(INT8, granularity=granularity)
    scales = [
        quantize(graph, PLAIN_PREPROCESS, calibration, made).graph.activations["stem"].scale
        for made in (recipe, replace(recipe, absorb=False))
    ]
    assert scales[0] < 0.95 * scales[1]
