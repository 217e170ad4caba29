"""Rewritings before quantization: the float function stays, and what they promise of the graph holds."""

from dataclasses import replace

import numpy as np
import pytest
from export_models import small_model
from graph_reference import run_graph
from quantize_graphs import Net, assert_same, images, output

from mbn_deploy.errors import UnknownNameError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.graph.fold import fold
from mbn_deploy.graph.graph import Op
from mbn_deploy.manifest import Preprocess
from mbn_deploy.quantize.mixed_precision import float_outputs
from mbn_deploy.quantize.passes.hard_swish import duplication_pays, lower_hard_swishes
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids, pixel_input
from mbn_deploy.runtime.preprocess import normalize

FORMS = {
    "automatic": duplication_pays,
    "duplicated_conv": lambda graph, op: True,
    "single_conv": lambda graph, op: False,
}


def kinds(graph):
    return [op.kind for op in graph.ops]


def stem_depthwise():
    net = Net()
    net.op("hard_swish", "swish", net.conv("stem", "x", 8, 3, gain=2))
    net.conv("project", net.depthwise("d", "swish", "relu"), 5)
    return net.graph()


def stem_residual():
    """V3-Large: the first block adds its result to the h-swish behind the stem."""
    net = Net()
    net.op("hard_swish", "swish", net.conv("stem", "x", 8, 3, gain=2))
    net.conv("project", net.depthwise("d", "swish", "relu"), 8)
    net.conv("head", net.op("add", "sum", "swish", "project"), 5)
    return net.graph()


def at_the_output():
    net = Net()
    net.op("hard_swish", "swish", net.conv("c", "x", 8, 3, gain=2))
    return net.graph()


def source_read_twice():
    net = Net()
    net.op("hard_swish", "swish", net.conv("stem", "x", 8, 3, gain=2))
    net.conv("side", "stem", 5)
    net.op("add", "sum", net.conv("main", "swish", 5), "side")
    return net.graph()


def result_read_twice():
    net = Net()
    net.op("hard_swish", "swish", net.conv("stem", "x", 8, 3, gain=2))
    net.op("add", "sum", net.conv("a", "swish", 5), net.conv("b", net.depthwise("d", "swish"), 5))
    return net.graph()


def squeezed():
    """Pooled, and multiplied by its own gate, as in every block of V3-Small."""
    net = Net()
    net.op("hard_swish", "swish", net.depthwise("d", net.conv("stem", "x", 8, gain=3)))
    net.conv("project", net.squeeze("se", "swish"), 5)
    return net.graph()


def without_a_source():
    net = Net()
    net.op("hard_swish", "swish", net.op("add", "sum", net.conv("a", "x", 8, gain=3), net.conv("b", "x", 8)))
    net.conv("head", "swish", 5)
    return net.graph()


def its_own_gate():
    """Squared: a factor would come back twice."""
    net = Net()
    net.op("hard_swish", "swish", net.conv("stem", "x", 8, gain=3))
    net.conv("head", net.op("multiply", "square", "swish", "swish"), 5)
    return net.graph()


SWISHES = (
    stem_depthwise, stem_residual, at_the_output, source_read_twice, result_read_twice, squeezed, without_a_source,
    its_own_gate,
)  # fmt: skip


@pytest.mark.parametrize("make", SWISHES)
@pytest.mark.parametrize("form", FORMS)
def test_lowered_hard_swishes_compute_the_same(make, form):
    graph = absorb_hard_sigmoids(make())
    assert_same(graph, lower_hard_swishes(graph, FORMS[form]).graph)


@pytest.mark.parametrize("make", SWISHES)
@pytest.mark.parametrize("form", FORMS)
def test_below_its_floor_a_value_makes_no_difference(make, form):
    graph = absorb_hard_sigmoids(make())
    lowered = lower_hard_swishes(graph, FORMS[form])
    x = 3 * images(graph)
    whole = run_graph(lowered.graph, x)
    for name, floor in lowered.floors.items():
        assert floor.shape == whole[name].shape[-1:]
        assert (whole[name] < floor).any(), "nothing lies below, so nothing is tested"
        cut = _with_floor(lowered.graph, name, floor)
        np.testing.assert_allclose(output(cut, x), whole[graph.output], atol=1e-4 * np.abs(whole[graph.output]).max())


def _with_floor(graph, name, floor):
    """max(t, floor) = relu(t - floor) + floor, put behind the tensor by ops of the graph."""
    raw, above = f"{name}/raw", f"{name}/above"
    ops = []
    for op in graph.ops:
        if op.output == name:
            low = np.array([floor[0]])
            assert (floor == low).all()
            ops.append(replace(op, output=raw))
            ops.append(Op("add_constant", above, (raw,), above, offset=-low, activation="relu"))
            ops.append(Op("add_constant", name, (above,), name, offset=low))
        else:
            ops.append(op)
    shapes = graph.shapes | dict.fromkeys((raw, above), graph.shapes[name])
    return replace(graph, ops=tuple(ops), shapes=shapes)


@pytest.mark.parametrize(
    ("make", "form", "left", "twins"),
    [
        (stem_depthwise, "automatic", 0, True),
        (stem_depthwise, "single_conv", 0, False),
        (stem_depthwise, "duplicated_conv", 0, True),
        (stem_residual, "single_conv", 0, True),  # six times it cannot be added to: the convolution is written twice
        (at_the_output, "single_conv", 0, True),  # nothing behind the output takes a factor back
        (source_read_twice, "duplicated_conv", 0, False),  # the other reader wants what the convolution makes
        (squeezed, "duplicated_conv", 0, True),
        (without_a_source, "duplicated_conv", 0, False),
        (its_own_gate, "single_conv", 0, True),
    ],
)
def test_which_form_is_taken(make, form, left, twins):
    lowered = lower_hard_swishes(absorb_hard_sigmoids(make()), FORMS[form]).graph
    assert kinds(lowered).count("hard_swish") == left
    assert ("add_constant" in kinds(lowered)) is not twins
    assert any(op.output.endswith("/sixth") for op in lowered.ops) is twins


def test_what_neither_form_fits_stays():
    net = Net()
    net.op("hard_swish", "swish", net.op("add", "sum", net.conv("a", "x", 8), net.conv("b", "x", 8)))
    assert kinds(lower_hard_swishes(net.graph()).graph)[-1] == "hard_swish"


def test_hard_swishes_that_compute_in_float_stay():
    graph = stem_depthwise()
    assert "hard_swish" in kinds(lower_hard_swishes(graph, keep=frozenset({"swish"})).graph)


def test_a_hard_sigmoid_is_its_convolution():
    graph = squeezed()
    absorbed = absorb_hard_sigmoids(graph)
    assert_same(graph, absorbed)
    assert "hard_sigmoid" not in kinds(absorbed)
    gate = absorbed.writers()["se/gate"]
    assert (gate.kind, gate.name, gate.activation) == ("conv", "se/expand", "unit")
    assert "hard_sigmoid" in kinds(absorb_hard_sigmoids(graph, frozenset({"se/gate"})))


def test_a_hard_sigmoid_of_something_else_gets_a_convolution_of_its_own():
    net = Net()
    net.op("add", "sum", net.op("hard_sigmoid", "h", net.conv("c", "x", 4)), "c")
    lowered = absorb_hard_sigmoids(net.graph())
    assert kinds(lowered) == ["conv", "depthwise", "add"]
    assert_same(net.graph(), lowered)
    net = Net()
    net.op("global_average_pool", "p", net.conv("c", "x", 4), shape=(1, 4))
    net.op("hard_sigmoid", "h", "p")
    assert_same(net.graph(), absorb_hard_sigmoids(net.graph()))


NETWORKS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mobilenet_v3_large_minimalistic",
)


@pytest.fixture(scope="module")
def folded():
    """Networks of the tables with random weights, folded, and images for them."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = fold(graph_from_keras(small_model(name)).graph)
        return made[name]

    return get


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", FORMS)
def test_whole_networks_compute_the_same(folded, name, form):
    graph = folded(name)
    lowered = lower_hard_swishes(absorb_hard_sigmoids(graph), FORMS[form]).graph
    assert not {"hard_swish", "hard_sigmoid"} & set(kinds(lowered))
    assert_same(graph, lowered)


@pytest.mark.parametrize(("mean", "std"), [((127.0,) * 3, (128.0,) * 3), ((124.0, 117.0, 104.0), (58.4, 57.1, 57.4))])
@pytest.mark.parametrize("first", ["conv", "depthwise"])
def test_raw_pixels_take_the_place_of_normalized_ones(mean, std, first):
    net = Net()
    net.conv("c", "x", 6, 3, activation="relu") if first == "conv" else net.depthwise("d", "x", "relu")
    preprocess = Preprocess(mean=mean, std=std)
    found = pixel_input(net.graph(), preprocess)
    pixels = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = output(net.graph(), normalize(pixels, preprocess))
    real = normalize(pixels, found.preprocess)
    assert found.params.scale == pytest.approx(1 / np.mean(std))
    assert {op.weights()[0].dtype for op in found.graph.ops} == {np.dtype(np.float32)}
    np.testing.assert_allclose(real, found.params.scale * (pixels - 128.0 - found.params.zero_point), atol=1e-6)
    got = output(found.graph, real)
    # Padding means one pixel level for all channels: exact inside, and everywhere if the mean is that level.
    where = slice(None) if len(set(mean)) == 1 else slice(1, -1)
    np.testing.assert_allclose(got[:, where, where], expected[:, where, where], atol=2e-5)


def test_an_input_that_no_convolution_reads_gets_one():
    net = Net()
    net.conv("c", net.op("relu", "r", "x"), 4)
    preprocess = Preprocess(mean=(124.0, 117.0, 104.0), std=(58.4, 57.1, 57.4))
    found = pixel_input(net.graph(), preprocess)
    assert [op.kind for op in found.graph.ops] == ["conv", "relu", "conv"]
    pixels = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = output(net.graph(), normalize(pixels, preprocess))
    np.testing.assert_allclose(output(found.graph, normalize(pixels, found.preprocess)), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "blocks", "last"),
    [
        ("mobilenet_v1", 1, "conv_pw_1_relu"),
        ("mobilenet_v2", 1, "expanded_conv_project_BN"),
        ("mobilenet_v2", 2, "block_1_project_BN"),
        ("mobilenet_v3_small", 1, "expanded_conv_project_bn"),
        ("mobilenet_v3_small", 2, "expanded_conv_1_project_bn"),
    ],
)
def test_a_float_region_ends_with_its_last_block(folded, name, blocks, last):
    graph = folded(name)
    region = float_outputs(graph, blocks, [])
    outputs = [op.output for op in graph.ops]
    assert region == set(outputs[: outputs.index(_near(outputs, last)) + 1])


def _near(outputs, wanted):
    """Names of BatchNorm layers differ in how they are joined."""
    plain = wanted.replace("_", "").replace("/", "").lower()
    return next(o for o in outputs if o.replace("_", "").replace("/", "").replace(".", "").lower() == plain)


def test_float_regions_by_name(folded):
    graph = folded("mobilenet_v2")
    op = graph.ops[3]
    assert float_outputs(graph, 0, []) == frozenset()
    assert float_outputs(graph, 0, [op.name]) == float_outputs(graph, 0, [op.output]) == {op.output}
    whole = float_outputs(graph, 1000, [])
    assert graph.output not in whole
    with pytest.raises(UnknownNameError, match="Conv1"):
        float_outputs(graph, 0, ["Conv_1_"])


@pytest.mark.parametrize("form", FORMS)
def test_a_floor_has_a_value_a_channel(form):
    net = Net()
    net.op("hard_swish", "swish", net.conv("stem", "x", 5, gain=2))  # of an image 8 wide
    net.conv("head", "swish", 4)
    floors = lower_hard_swishes(net.graph(), FORMS[form]).floors
    assert [floor.shape for floor in floors.values()] == [(5,)]
