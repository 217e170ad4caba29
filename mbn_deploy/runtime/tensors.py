"""Quantize and dequantize tensors: real = scale * (q - zero_point) (arXiv 1712.05877, equation 1)."""

from __future__ import annotations

import numpy as np

from mbn_deploy.arrays import Array, Floats, Pixels
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Layout, Preprocess, TensorInfo
from mbn_deploy.runtime.preprocess import normalize, per_channel

INTEGERS = ("uint8", "int8", "int16", "uint16", "int32")


def quantize(real: Array, scale: float, zero_point: int, dtype: str) -> Array:
    """Return the nearest integers, of the same shape.

    Computed in float64. Halves go to the even integer, as in ONNX QuantizeLinear and XNNPACK (TFLite's reference
    kernel rounds them away from zero). Values outside the dtype saturate, infinities too.

    Raises `InputError` for NaN, which has no integer.
    """
    wide = np.asarray(real, np.float64)
    if np.isnan(wide).any():
        raise InputError("values with NaN cannot be quantized")
    limits = np.iinfo(dtype)
    # The zero point is added after rounding: it is an integer and must not take precision from the halves.
    integers: Array = (np.rint(wide / scale) + zero_point).clip(limits.min, limits.max).astype(dtype)
    return integers


def dequantize(values: Array, scale: float, zero_point: int) -> Floats:
    """Return the real numbers, of the same shape."""
    # Widened before the subtraction, which would wrap around in 8 bits.
    return _to_float32((values.astype(np.int64) - zero_point) * float(scale))


def to_real(values: Array, info: TensorInfo) -> Floats:
    """Return a raw output as float32; integers without a scale keep their value.

    Numbers that are too large for float32 become infinite.
    """
    if info.scale is None or info.dtype not in INTEGERS:
        return _to_float32(values)
    return dequantize(values, info.scale, info.zero_point or 0)


def _to_float32(values: Array) -> Floats:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


class PixelEncoder:
    """Turns pixels into a model's input tensor: normalize, quantize, transpose, with as little work as possible.

    A quantized input has only 256 possible values for each channel, so normalizing and quantizing is one table. Where
    that table is the identity, pixels go into the interpreter as they are (`identity`).
    """

    def __init__(self, info: TensorInfo, preprocess: Preprocess, layout: Layout) -> None:
        self._info, self._preprocess, self._nchw = info, preprocess, layout == "nchw"
        channels = info.shape[1] if self._nchw else info.shape[3]
        per_channel(preprocess.mean, channels)  # a wrong number of means is an error now, not at the first image
        self._tables = _encoding_tables(info, preprocess, channels) if info.dtype in INTEGERS else None
        self._is_unchanged = (
            self._tables is not None and info.dtype == "uint8" and bool((self._tables == np.arange(256)).all())
        )
        self.identity = self._is_unchanged and not self._nchw

    def __call__(self, pixels: Pixels) -> Array:
        """Encode uint8 (N, H, W, C), channels in the preprocessing's order, in the file's dtype and layout."""
        values = pixels if self._is_unchanged else self._encode(pixels)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self._nchw else values

    def _encode(self, pixels: Pixels) -> Array:
        if self._tables is None:
            return normalize(pixels, self._preprocess).astype(self._info.dtype, copy=False)
        if (self._tables == self._tables[0]).all():
            values: Array = np.take(self._tables[0], pixels)
            return values
        return np.stack([np.take(table, pixels[..., i]) for i, table in enumerate(self._tables)], axis=-1)


def _encoding_tables(info: TensorInfo, preprocess: Preprocess, channels: int) -> Array:
    """Return the integer of every pixel value for each channel, (C, 256).

    An input without a scale takes the pixel itself, less 128 for int8.
    """
    levels = np.arange(256, dtype=np.uint8)
    if info.scale is None:
        shift = 128 if info.dtype == "int8" else 0
        return np.tile((levels.astype(np.int32) - shift).astype(info.dtype), (channels, 1))
    real = normalize(np.tile(levels[:, None], (1, channels)), preprocess)
    return np.ascontiguousarray(quantize(real, info.scale, info.zero_point or 0, info.dtype).T)
