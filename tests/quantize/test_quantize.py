"""`quantize`: its steps on networks of a few ops, and the demo's trained ones in both formats, by every recipe."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from quantize_graphs import (
    PLAIN_PREPROCESS,
    Net,
    calibrated,
    demo_calibration,
    demo_graph,
    demo_held_back,
    images,
    output,
)
from scramble import scramble

from mbn_deploy.answers import Answers
from mbn_deploy.errors import UnknownNameError
from mbn_deploy.export.encode import ModelDescription, encode_int8
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.export.tflite.delegate import probe_delegate
from mbn_deploy.graph.graph import Graph
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.integers import MAX_MULTIPLIER
from mbn_deploy.quantize.lowering import lower
from mbn_deploy.quantize.passes.bias import bias_image_count
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.range_choice import may_narrow, narrow_ranges
from mbn_deploy.quantize.recipe import INT8, INT16, MIXED, PLAIN, TWIN, Recipe
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.runner import FileRunner

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")
SMALL = "mobilenet_v3_small"
FORMATS = ("tflite", "onnx")
PER_TENSOR = replace(INT8, name="int8-per-tensor", granularity="per-tensor")
MIN_MAX = replace(INT8, name="int8-min-max", ranges="min-max")
# Equalization for weights of one scale looks further, and takes longer: on one network only.
INTEGER = [
    pytest.param(name, recipe, id=f"{name}-{recipe.name}")
    for name, recipes in {"mobilenet_v1": [INT8], "mobilenet_v2": [INT8], SMALL: [INT8, TWIN, PER_TENSOR]}.items()
    for recipe in recipes
]


@cache
def made(name, recipe, scrambled=None):
    """The quantization of a demo network; `scrambled` is a seed."""
    graph, preprocess = demo_graph(name)
    graph = graph if scrambled is None else scramble(graph, scrambled)
    return quantize(graph, preprocess, demo_calibration(), recipe)


@cache
def encoded(name, recipe, file_format, scrambled=None):
    found = made(name, recipe, scrambled)
    description = ModelDescription(name, Answers(), demo_graph(name)[1])
    return encode_int8(found.graph, found.preprocess, description, file_format)


@cache
def scores(name, recipe, file_format, scrambled=None):
    """Raw answers on the held-back digits, and the same as real numbers."""
    file = encoded(name, recipe, file_format, scrambled)
    backend = open_backend(file.data, file_format, threads=1)
    runner = FileRunner(backend, file.preprocess, file.layout, file.described(backend.input))
    return runner(demo_held_back()[0])


@cache
def float_scores(name):
    graph, preprocess = demo_graph(name)
    return output(graph, normalize(demo_held_back()[0], preprocess))


def agreement(a, b):
    return float((a.argmax(1) == b.argmax(1)).mean())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_int8_agrees_with_float(name, file_format):
    assert agreement(scores(name, INT8, file_format), float_scores(name)) >= 0.98
    assert agreement(float_scores(name), np.eye(10)[demo_held_back()[1]]) > 0.9


@pytest.mark.parametrize("recipe", [MIN_MAX, TWIN, PER_TENSOR, MIXED], ids=lambda r: r.name)
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_recipe_agrees_with_float(recipe, file_format):
    assert agreement(scores(SMALL, recipe, file_format), float_scores(SMALL)) >= 0.97


@pytest.mark.parametrize(("name", "recipe"), INTEGER)
def test_both_formats_answer_with_the_same_integers(name, recipe):
    one, other = (scores(name, recipe, file_format) for file_format in FORMATS)
    step = made(name, recipe).graph.activations[made(name, recipe).graph.graph.output].scale
    levels = np.rint(np.abs(one - other) / step).max(1)
    # One level is the softmax's, which each library computes in its own way. A sum of two tensors (V2's) may lie
    # on the border of two levels, and an image in hundreds has one there.
    assert (levels > 1).mean() <= (0.01 if name == "mobilenet_v2" else 0)
    assert agreement(one, other) >= 0.99


@pytest.mark.parametrize(("name", "recipe"), INTEGER)
def test_all_integer_files_are_one_piece(name, recipe, tmp_path):
    for file_format in FORMATS:
        path = tmp_path / f"m.{file_format}"
        path.write_bytes(encoded(name, recipe, file_format).data)
        assert inspect_file(path).all_integer
    report = probe_delegate(tmp_path / "m.tflite")
    assert (report.error, report.partitions) == (None, 1)
    assert set(report.outside) <= {"QUANTIZE", "SOFTMAX"}  # pixels and scores


@pytest.mark.parametrize(("name", "recipe"), [*INTEGER, pytest.param(SMALL, PLAIN, id=f"{SMALL}-plain")])
def test_requantization_stays_in_what_xnnpack_takes(name, recipe):
    graph = made(name, recipe).graph
    for op in graph.graph.weighted():
        result = graph.activations[op.output].scale
        multiplier = graph.activations[op.inputs[0]].scale * graph.weights[op.name].scales.astype(float) / result
        assert 2.0**-32 <= multiplier.min() <= multiplier.max() <= MAX_MULTIPLIER * 1.001
    for op in graph.graph.ops:
        if op.kind == "add":
            ratios = [graph.activations[n].scale / graph.activations[op.output].scale for n in op.inputs]
            assert all(2.0**-10 <= ratio < 256 for ratio in ratios)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_scrambled_network_keeps_its_answers(name, seed):
    reference = float_scores(name)
    whole = agreement(scores(name, INT8, "tflite"), reference)
    mixed = agreement(scores(name, INT8, "tflite", seed), reference)
    plain = agreement(scores(name, PLAIN, "tflite", seed), reference)
    assert plain < 0.9 * whole, "it does not hurt without equalization, so nothing is tested"
    assert mixed >= 0.97 * whole


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_block_of_a_mixed_file_is_float_and_nothing_else(name, tmp_path):
    found = made(name, MIXED)
    assert found.record["precision"] == found.graph.precision == "int8-mixed"
    ops = found.graph.graph.ops
    floats = [op for op in ops if found.graph.is_float(op)]
    assert found.record["float_layers"] == [op.name for op in floats]
    assert 0 < len(floats) < len(ops) / 2
    for file_format in FORMATS:
        path = tmp_path / f"m.{file_format}"
        path.write_bytes(encoded(name, MIXED, file_format).data)
        report = inspect_file(path)
        assert not report.all_integer
        assert report.precision == "int8-mixed"
        computing = [op for op in report.ops if op.kind.upper() not in BORDERS]
        layers = {
            integer: {_layer(op.name, ops) for op in computing if op.integer is integer} for integer in (True, False)
        }
        assert layers[False] == {op.name for op in floats}
        assert layers[True] <= {op.name for op in ops} - layers[False]
        assert len(layers[True]) > len(layers[False])


BORDERS = ("QUANTIZE", "DEQUANTIZE", "QUANTIZELINEAR", "DEQUANTIZELINEAR", "TRANSPOSE")


def _layer(name, ops):
    """Files call an op by its layer or by its result, with something behind it if they need several for one."""
    known = {op.output: op.name for op in ops} | {op.name: op.name for op in ops}
    while name not in known:
        name = name.rsplit("/", 1)[0]
    return known[name]


def test_a_mixed_file_is_nearer_to_float():
    """Than the same recipe with integers everywhere: fewer pictures are more than a level off.

    Counted, not averaged: of squares, one picture near the border of two classes makes most.
    """
    reference = float_scores(SMALL)
    recipes = [replace(MIXED, name=f"int8-{blocks}-float", float_blocks=blocks) for blocks in (0, 9)]
    off = [np.abs(scores(SMALL, recipe, "tflite") - reference).max(1) > 1 / 256 for recipe in recipes]
    assert off[1].sum() < off[0].sum()


def test_both_formats_of_a_mixed_file_agree():
    one, other = (scores(SMALL, MIXED, file_format) for file_format in FORMATS)
    assert agreement(one, other) >= 0.99


def test_layers_by_name_stay_in_float():
    graph, preprocess = demo_graph(SMALL)
    layer = next(op for op in graph.ops if op.kind == "depthwise")
    found = quantize(graph, preprocess, demo_calibration(), replace(INT8, float_layers=(layer.name,)))
    assert found.record["float_layers"] == [layer.name]
    with pytest.raises(UnknownNameError, match="no such layer"):
        quantize(graph, preprocess, demo_calibration(), replace(INT8, float_layers=("no such layer",)))


def test_per_tensor_weights_have_one_scale():
    for weights in made(SMALL, PER_TENSOR).graph.weights.values():
        assert len(set(weights.scales)) == 1
    assert any(len(set(weights.scales)) > 1 for weights in made(SMALL, INT8).graph.weights.values())


def test_record_for_the_manifest():
    record = made(SMALL, INT8).record
    assert record["recipe"] == INT8.to_dict()
    assert record["precision"] == "int8"
    assert record["float_layers"] == []
    assert record["calibration"] == {"images": 60, "sha256": demo_calibration().sha256}


def test_the_same_images_give_the_same_bytes():
    graph, preprocess = demo_graph("mobilenet_v1")
    again = quantize(graph, preprocess, demo_calibration(), INT8)
    description = ModelDescription("mobilenet_v1", Answers(), preprocess)
    for file_format in FORMATS:
        data = encode_int8(again.graph, again.preprocess, description, file_format).data
        assert data == encoded("mobilenet_v1", INT8, file_format).data


def photographs(count=12, size=8, seed=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    return CalibrationSet(pixels, tuple(map(str, range(count))), "0" * 64)


def swish(reader):
    """A convolution with an h-swish that one layer reads."""
    net = Net()
    net.op("hard_swish", "swish", net.conv("c", "x", 4))
    (net.depthwise if reader == "depthwise" else partial(net.conv, outputs=4))("reader", "swish")
    return net.graph()


@pytest.mark.parametrize(
    ("recipe", "reader", "duplicated"),
    [
        (INT8, "depthwise", True),
        (INT8, "conv", False),
        (INT16, "conv", True),
        (TWIN, "conv", True),
        (PLAIN, "depthwise", False),
        (replace(INT8, duplicate_threshold=1.0), "depthwise", True),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else str(value),
)
def test_a_convolution_is_written_twice_where_that_pays(recipe, reader, duplicated):
    graph = swish(reader)
    lowered = lower(graph, recipe, iter(images(graph)[:, None]))
    assert ("swish/sixth" in lowered.graph.shapes) is duplicated


def test_no_image_is_looked_at_where_every_h_swish_is_worth_two_convolutions():
    looked_at = iter([np.zeros((1, 8, 8, 3), np.float32)])
    assert "swish/sixth" in lower(swish("depthwise"), INT8, looked_at).graph.shapes
    assert next(looked_at) is not None


@pytest.mark.parametrize(
    ("change", "bound"),
    [({"granularity": "per-tensor"}, True), ({}, False), ({"granularity": "per-tensor", "equalize": False}, False)],
)
def test_bounds_are_freed_where_channels_share_a_scale_and_are_equalized(change, bound):
    net = Net()
    net.conv("head", net.depthwise("d", net.conv("c", "x", 4, activation="relu6")), 2)
    lowered = lower(net.graph(), replace(INT8, **change), iter(()))
    assert ("bound" in {op.kind for op in lowered.graph.ops}) is bound


@pytest.mark.parametrize("wanted", [True, False])
def test_biases_are_corrected_when_the_recipe_says_so(wanted):
    net = Net()
    net.conv("head", net.conv("c", "x", 4, activation="relu"), 2)
    steps = set()
    recipe = replace(INT8, correct_biases=wanted)
    quantize(net.graph(), PLAIN_PREPROCESS, photographs(), recipe, lambda step, *_: steps.add(step))
    assert ("correct biases" in steps) is wanted


def test_channels_that_a_relu_always_cuts_off_are_counted():
    net = Net()
    net.conv("head", net.conv("c", "x", 4, activation="relu"), 2)
    graph = net.graph()
    first = replace(graph.ops[0], bias=np.float32([-1e3, 0, 0.1, -1e3]))
    graph = graph.with_ops([first, *graph.ops[1:]])
    assert quantize(graph, PLAIN_PREPROCESS, photographs(), PLAIN).record["dead_channels"] == {"c": 2}
    assert quantize(net.graph(), PLAIN_PREPROCESS, photographs(), PLAIN).record["dead_channels"] == {}


def test_ranges_of_images_may_be_narrowed_but_for_clean_ones():
    net = Net()
    net.conv("linear", "x", 4)
    net.conv("cut", "linear", 4, activation="relu")
    net.op("reshape", "flat", net.pool("pool", "cut"), shape=(1, 4))
    net.conv("clean", "linear", 4, activation="relu6")
    graph = net.graph()
    assert [op.name for op in graph.ops if may_narrow(calibrated(graph), op)] == ["linear", "cut"]


def test_ranges_are_narrowed_to_what_all_channels_keep():
    net = Net()
    net.conv("c", "x", 2)
    graph = net.graph()
    op = replace(graph.ops[0], kernel=np.float32(np.eye(3, 2))[None, None], bias=np.float32([-1, 1]))
    graph = graph.with_ops([op])
    x = normalize(photographs().pixels, PLAIN_PREPROCESS)
    state = calibrated(graph, x)
    kept = narrow_ranges(state, x[:, None], frozenset()).ranges["c"]
    np.testing.assert_allclose((kept.low, kept.high), [[-2, 0], [0, 2]], atol=0.051)  # a step of the search is 0.05
    assert narrow_ranges(state, x[:, None], frozenset("c")) is state


def test_biases_are_corrected_on_as_many_images_as_fit_but_on_eight():
    def count(*sizes):
        graph = Graph("net", "x", "x", (), {f"t{at}": (1, size, 1) for at, size in enumerate(sizes)})
        return bias_image_count(graph)

    mebi = 2**20
    assert [count(size * mebi) for size in (1, 4, 8, 32)] == [64, 16, 8, 8]
    assert count(4 * mebi, 2 * mebi) == 16  # the largest tensor decides
