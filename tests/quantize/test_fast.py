"""The fast rung: few h-swishes in the twin form, chosen by what the shared form would lose."""

from dataclasses import replace

import numpy as np
import pytest
from quantize_graphs import demo_calibration, demo_graph

from mbn_deploy.pipeline.recipe_search import climb, rungs_for
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


def test_without_a_measure_int8_is_taken_and_not_the_fast_rung():
    assert LADDER[0] == FAST
    assert climb(LADDER, lambda made: made, None).held == INT8
    assert climb([FAST], lambda made: made, None).held == FAST


def test_a_network_without_h_swish_has_no_fast_rung_unless_it_is_asked_for():
    graph, _ = demo_graph("mobilenet_v2")
    assert "int8-fast" not in [r.name for r in rungs_for(graph, None, "per-channel", ())]
    (only,) = rungs_for(graph, "int8-fast", "per-channel", ())
    assert only.name == "int8-fast"


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
