"""Quantizing and dequantizing, and pixels on their way into a tensor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import Preprocess, TensorInfo
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.runtime.tensors import PixelEncoder, dequantize, quantize, to_real

SCALES = st.floats(1e-6, 1e4)
DTYPES = st.sampled_from(["uint8", "int8", "int16"])


@st.composite
def params(draw):
    dtype = draw(DTYPES)
    limits = np.iinfo(dtype)
    return draw(SCALES), draw(st.integers(int(limits.min), int(limits.max))), dtype


def reals(limit=1e6):
    return nps.arrays(np.float64, st.integers(1, 30), elements=st.floats(-limit, limit))


@given(params(), st.data())
def test_all_integers_survive_the_round_trip(chosen, data):
    scale, zero, dtype = chosen
    limits = np.iinfo(dtype)
    integers = data.draw(nps.arrays(dtype, 20, elements=st.integers(int(limits.min), int(limits.max))))
    assert (quantize(dequantize(integers, scale, zero), scale, zero, dtype) == integers).all()


@given(params(), reals())
def test_within_the_range_the_error_is_half_a_step(chosen, real):
    scale, zero, dtype = chosen
    limits = np.iinfo(dtype)
    inside = real.clip(scale * (limits.min - zero), scale * (limits.max - zero))
    back = scale * (quantize(inside, scale, zero, dtype).astype(np.float64) - zero)
    assert (np.abs(back - inside) <= scale * (0.5 + 1e-9)).all()


@given(params(), reals())
def test_outside_of_the_range_it_saturates(chosen, real):
    scale, zero, dtype = chosen
    limits = np.iinfo(dtype)
    got = quantize(real, scale, zero, dtype)
    assert (got[real > scale * (limits.max - zero)] == limits.max).all()
    assert (got[real < scale * (limits.min - zero)] == limits.min).all()
    assert quantize(np.array([np.inf, -np.inf]), scale, zero, dtype).tolist() == [limits.max, limits.min]


@given(params(), reals())
def test_order_is_kept(chosen, real):
    got = quantize(np.sort(real), *chosen).astype(np.int64)
    assert (np.diff(got) >= 0).all()


@given(params())
def test_zero_is_exact(chosen):
    scale, zero, dtype = chosen
    assert quantize(np.zeros(1), scale, zero, dtype)[0] == zero
    assert dequantize(np.array([zero], dtype), scale, zero)[0] == 0


def test_halves_go_to_the_even_integer():
    assert quantize(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), 1.0, 0, "int8").tolist() == [0, 2, 2, 0, -2]
    assert quantize(np.array([0.5, 1.5]), 1.0, 3, "int8").tolist() == [3, 5]


def test_nan_has_no_integer():
    with pytest.raises(InputError, match="NaN"):
        quantize(np.array([np.nan]), 1.0, 0, "int8")


def test_dequantize_widens_before_it_subtracts():
    assert dequantize(np.array([-128, 127], np.int8), 2.0, 100).tolist() == [-456, 54]
    assert dequantize(np.array([0, 255], np.uint8), 1.0, 128).tolist() == [-128, 127]


def test_integers_without_a_scale_keep_their_value():
    assert to_real(np.array([7], np.uint8), TensorInfo("x", (1, 1), "uint8")).tolist() == [7]


def info(dtype, scale=None, zero_point=None, shape=(1, 4, 5, 3)):
    return TensorInfo("x", shape, dtype, scale, zero_point)


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
TORCH = Preprocess.parse("torch")


def test_encoding_is_normalizing_and_quantizing():
    for preprocess in (TORCH, Preprocess.parse("tf"), Preprocess.parse("raw")):
        for dtype, zero in (("int8", -20), ("uint8", 108)):
            got = PixelEncoder(info(dtype, 0.02, zero), preprocess, "nhwc")(PIXELS)
            assert got.dtype == dtype
            assert (got == quantize(normalize(PIXELS, preprocess), 0.02, zero, dtype)).all()


def test_pixels_that_are_the_tensor_go_in_as_they_are():
    encode = PixelEncoder(info("uint8", 1 / 128, 128), Preprocess(mean=(128.0,), std=(128.0,)), "nhwc")
    assert encode.identity
    assert encode(PIXELS) is PIXELS
    encode = PixelEncoder(info("int8", 1 / 128, 0), Preprocess(mean=(128.0,), std=(128.0,)), "nhwc")
    assert not encode.identity
    assert (encode(PIXELS) == PIXELS.astype(int) - 128).all()


def test_without_a_scale_the_pixel_is_the_value():
    assert PixelEncoder(info("uint8"), TORCH, "nhwc").identity
    assert (PixelEncoder(info("int8"), TORCH, "nhwc")(PIXELS) == PIXELS.astype(int) - 128).all()


def test_layout_moves_the_channels():
    encode = PixelEncoder(info("float32", shape=(1, 3, 4, 5)), TORCH, "nchw")
    got = encode(PIXELS)
    assert got.flags.c_contiguous
    assert (got == normalize(PIXELS, TORCH).transpose(0, 3, 1, 2)).all()


def test_float_types_are_the_files():
    assert PixelEncoder(info("float16"), TORCH, "nhwc")(PIXELS).dtype == np.float16


def test_channel_counts_that_contradict_each_other():
    with pytest.raises(UsageError, match="3 numbers"):
        PixelEncoder(info("float32", shape=(1, 4, 5, 1)), TORCH, "nhwc")
