"""Scales with which no product, mean or constant is a tie that kernel libraries round differently."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mbn_deploy.graph.quantized import INT8_MAX, INT8_MIN, INT8_STEPS, QuantParams, constant_params
from mbn_deploy.quantize.rounding_ties import MARGIN, WIDENING, mean_scale_without_ties, product_scale_without_ties

UNIT_STEP = QuantParams(1.0, -128)
scales = st.floats(1e-4, 10).map(lambda s: float(np.float32(s)))
points = st.integers(INT8_MIN, INT8_MAX)


def requantized(a, b, result):
    """Levels of every product: as XNNPACK and as ONNX Runtime compute them, in float32."""
    levels = np.arange(INT8_MIN, INT8_MAX + 1)
    f32 = np.float32
    first, second = levels - a.zero_point, levels - b.zero_point
    factor = f32(f32(a.scale) * f32(b.scale) / f32(result.scale))
    xnnpack = np.outer(first, second).astype(np.float32) * factor
    real = np.outer(first.astype(np.float32) * f32(a.scale), second.astype(np.float32) * f32(b.scale))
    onnx = real / f32(result.scale)
    return [np.clip(np.rint(x) + result.zero_point, INT8_MIN, INT8_MAX) for x in (xnnpack, onnx)]


@settings(max_examples=40, deadline=None)
@given(st.builds(QuantParams, scales, points), st.builds(QuantParams, scales, points), st.floats(0.2, 3), points)
def test_no_product_is_rounded_in_two_ways(a, b, share, point):
    widest = max(abs(v) for v in a.range) * max(abs(v) for v in b.range)
    assume(widest > 0)
    wanted = QuantParams(float(np.float32(widest * share / INT8_STEPS)), point)
    found = product_scale_without_ties(wanted, [a, b])
    assert found.zero_point == wanted.zero_point
    assert wanted.scale <= found.scale <= wanted.scale * (1 + 256 * WIDENING) * (1 + 1e-6)
    one, other = requantized(a, b, found)
    assert (one == other).all()


def test_products_that_tie_are_stepped_around():
    gate, x = QuantParams(float(np.float32(6 / 255)), -128), QuantParams(0.05, 0)
    tied = QuantParams(float(np.float32(2 * gate.scale * x.scale)), 0)  # every odd product is half a step
    one, other = requantized(x, gate, product_scale_without_ties(tied, [x, gate]))
    assert (one == other).all()
    assert product_scale_without_ties(tied, [x, gate]).scale > tied.scale


@given(st.floats(0.01, 6).map(float), scales, points)
def test_a_constant_that_is_added_is_no_tie(value, scale, point):
    out = QuantParams(scale, point)
    level, params = constant_params(value, out)
    real = (level - params.zero_point) * params.scale
    assert abs(real - value) <= 0.126 * scale
    assert abs(abs(real / scale) % 1 - 0.5) > 1e-4


@pytest.mark.parametrize(("positions", "clear"), [(49, 1.0), (196, 1.0), (3136, 0.1)])
def test_no_mean_lies_on_a_border(positions, clear):
    """Every sum of levels that comes out inside the range; of a large image as far from borders as scales allow."""
    source, wanted = QuantParams(0.0235294122248888, -128), QuantParams(0.0117647061124444, -128)
    made = mean_scale_without_ties(wanted, source, positions)
    assert wanted.scale <= made.scale < 1.04 * wanted.scale
    values = np.arange(positions * 256) * (source.scale / positions / made.scale)
    inside = values[values <= 256]
    assert (np.abs(inside % 1 - 0.5) / (inside + 1)).min() > clear * MARGIN


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_a_constant_of_an_odd_number_of_half_steps_is_moved_by_an_eighth(value):
    output = QuantParams(6 / 255, -128)  # 3 are 127.5 steps
    level, params = constant_params(value, output)
    assert level == np.sign(value) * 127
    assert params.scale * 127 == pytest.approx(abs(value + output.scale / 8))
    level, params = constant_params(1.0, output)  # 42.5 steps
    assert params.scale * level == pytest.approx(1 + output.scale / 8)
    assert constant_params(2.0, output)[1].scale * 127 == pytest.approx(2)


@pytest.mark.parametrize(("point", "other"), [(-128, -128), (127, 127)])
def test_ties_at_the_first_and_the_last_border_are_stepped_around(point, other):
    """89 * 97 is half a level, next to the end of the levels; no odd multiple of it is a product of two levels."""
    a, b = QuantParams(1.0, -128), QuantParams(1.0, other)
    tied = QuantParams(2.0 * 89 * 97, point)
    assert product_scale_without_ties(tied, [a, b]).scale > tied.scale
    clear = QuantParams(3.0 * 255 * 255, point)
    assert product_scale_without_ties(clear, [a, b]) == clear
    mean = QuantParams(2.0 * 255, point)
    assert mean_scale_without_ties(mean, b, 49).scale > mean.scale


def test_a_tie_beyond_the_levels_stays():
    """It falls on level -129.5: both sides saturate. All products but 0 do, as none is above it."""
    tied = QuantParams(float(np.float32(89 * 97 / 1.5)), -128)
    assert product_scale_without_ties(tied, [QuantParams(1.0, -128), QuantParams(1.0, 127)]) == tied


def test_a_mean_is_moved_from_the_first_border():
    """49 values of the lowest level but one unit of the sum end on a border half a level above the lowest."""
    tied = QuantParams(2.0, -128)
    assert mean_scale_without_ties(tied, QuantParams(1.0, -128), 1).scale > 2


def test_a_tie_with_the_largest_product_is_stepped_around():
    """3.5 steps are 255 * 255; at 0.5, 1.5 and 2.5 lie sevenths of it, no integers."""
    tied = float(np.float32(2 * 255 * 255 / 7))
    assert product_scale_without_ties(QuantParams(tied, -128), [UNIT_STEP] * 2).scale > tied


def test_a_sum_just_above_a_border_is_stepped_around():
    """Of three levels; a step is a little less than two thirds, and half of it a little less than the sum 1."""
    tied = float(np.nextafter(np.float32(2 / 3), np.float32(0)))
    assert tied < 2 / 3
    assert mean_scale_without_ties(QuantParams(tied, -128), UNIT_STEP, 3).scale > tied
