"""`quantize` on the demo's trained networks: both formats, every recipe, what is float and what is not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from quantize_graphs import demo_calibration, demo_graph, demo_held_back, output
from scramble import scramble

from mbn_deploy.errors import UnknownNameError
from mbn_deploy.export.delegate import probe_delegate
from mbn_deploy.export.files import Facts, encode_int8
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.quantize.api import quantize
from mbn_deploy.quantize.quantizer import MAX_MULTIPLIER
from mbn_deploy.quantize.recipe import INT8, MIXED, PLAIN, TWIN, Recipe
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.runner import FileRunner

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")
SMALL = "mobilenet_v3_small"
FORMATS = ("tflite", "onnx")
PER_TENSOR = replace(INT8, name="int8-per-tensor", granularity="per-tensor")
MIN_MAX = replace(INT8.with_ranges("min-max"), name="int8-min-max")
ENTROPY = replace(INT8.with_ranges("entropy"), name="int8-entropy")
# Equalization for weights of one scale looks further, and takes longer: on one network only.
INTEGER = [
    pytest.param(name, recipe, id=f"{name}-{recipe.name}")
    for name, recipes in {"mobilenet_v1": [INT8], "mobilenet_v2": [INT8], SMALL: [INT8, TWIN, PER_TENSOR]}.items()
    for recipe in recipes
]
PERCENTILE = replace(INT8.with_ranges("percentile"), name="int8-percentile")


@cache
def made(name, recipe, scrambled=None):
    """The quantization of a demo network; `scrambled` is a seed."""
    graph, preprocess = demo_graph(name)
    graph = graph if scrambled is None else scramble(graph, scrambled)
    return quantize(graph, preprocess, demo_calibration(), recipe)


@cache
def encoded(name, recipe, file_format, scrambled=None):
    found = made(name, recipe, scrambled)
    facts = Facts(name, "softmax", demo_graph(name)[1])
    return encode_int8(found.graph, found.preprocess, facts, file_format)


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


@pytest.mark.parametrize("recipe", [MIN_MAX, TWIN, ENTROPY, PERCENTILE, PER_TENSOR, MIXED], ids=lambda r: r.name)
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
    assert found.facts["precision"] == found.graph.precision == "int8-mixed"
    ops = found.graph.graph.ops
    floats = [op for op in ops if found.graph.is_float(op)]
    assert found.facts["float_layers"] == [op.name for op in floats]
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
    assert found.facts["float_layers"] == [layer.name]
    with pytest.raises(UnknownNameError, match="layer"):
        quantize(graph, preprocess, demo_calibration(), replace(INT8, float_layers=("no such layer",)))


def test_per_tensor_weights_have_one_scale():
    for weights in made(SMALL, PER_TENSOR).graph.weights.values():
        assert len(set(weights.scales)) == 1
    assert any(len(set(weights.scales)) > 1 for weights in made(SMALL, INT8).graph.weights.values())


def test_facts_for_the_manifest():
    facts = made(SMALL, INT8).facts
    assert Recipe.from_dict(facts["recipe"]) == INT8
    assert facts["precision"] == "int8"
    assert facts["float_layers"] == []
    assert facts["calibration"] == {"images": 60, "sha256": demo_calibration().sha256}


def test_the_same_images_give_the_same_bytes():
    graph, preprocess = demo_graph("mobilenet_v1")
    again = quantize(graph, preprocess, demo_calibration(), INT8)
    facts = Facts("mobilenet_v1", "softmax", preprocess)
    for file_format in FORMATS:
        data = encode_int8(again.graph, again.preprocess, facts, file_format).data
        assert data == encoded("mobilenet_v1", INT8, file_format).data
