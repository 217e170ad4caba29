"""The fast rung: few h-swishes in the twin form, chosen by what the shared form would lose."""

from dataclasses import replace

import numpy as np
import pytest
from quantize_graphs import demo_calibration, demo_graph

from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import int8_recipes, recipes_to_try
from mbn_deploy.quantize.passes.hard_swish import single_conv_noise
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.ranges import ChannelRange
from mbn_deploy.quantize.recipe import FAST, INT8, LADDER


def channel_range(lows, highs, variances):
    low, high, variance = (np.array(values, float) for values in (lows, highs, variances))
    return ChannelRange(low, high, np.zeros_like(low), variance)


def test_noise_is_the_share_of_the_variance_that_one_common_step_takes():
    step = (252 + 3) / 255  # what lies below -3 needs no level
    source = channel_range([-40, -1], [252, 1], [1, 1])
    assert single_conv_noise(source, channel_range([0, 0], [1, 1], [step**2, step**2])) == pytest.approx(1 / 12)
    # A channel cannot lose more than it has.
    assert single_conv_noise(source, channel_range([0, 0], [1, 1], [step**2, 0])) == pytest.approx((1 / 12 + 1) / 2)


def test_without_a_limit_int8_is_taken_and_not_the_fast_recipe():
    assert LADDER[0] == FAST
    graph, _ = demo_graph("mobilenet_v3_small")
    options = ExportOptions(calibrate="photos")
    assert recipes_to_try("int8", graph, options) == (INT8,)
    assert recipes_to_try("int8", graph, replace(options, recipe="int8-fast")) == (FAST,)
    assert recipes_to_try("int8", graph, replace(options, evaluate="held-back", max_drop=1.0)) == LADDER


def test_a_network_without_h_swish_has_no_fast_recipe_unless_it_is_requested():
    graph, _ = demo_graph("mobilenet_v2")
    options = ExportOptions(calibrate="photos")
    assert FAST not in int8_recipes(graph, options)
    assert int8_recipes(graph, replace(options, recipe="int8-fast")) == (FAST,)


def twins(duplicate_threshold):
    """Names of the h-swishes of a V3-Small that are written twice."""
    graph, preprocess = demo_graph("mobilenet_v3_small")
    made = quantize(
        graph, preprocess, demo_calibration(), replace(FAST, duplicate_threshold=duplicate_threshold)
    ).graph.graph
    return {op.output.removesuffix("/gate") for op in made.ops if op.kind == "conv" and op.output.endswith("/gate")}


def test_fewer_h_swishes_are_written_twice_the_more_noise_is_let_pass():
    every, some, one = twins(0.0), twins(0.01), twins(1.0)
    assert one < every
    assert one <= some <= every
    assert len(one) == 1, "the picture's convolution is always written twice"
