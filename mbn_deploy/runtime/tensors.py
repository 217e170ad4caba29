"""Real numbers and the integers that stand for them: real = scale * (q - zero_point) (arXiv 1712.05877, eq. 1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Layout, Preprocess, TensorInfo
from mbn_deploy.runtime.preprocess import normalize, per_channel

INTEGERS = ("uint8", "int8", "int16", "uint16", "int32")


def quantize(real: Array, scale: float, zero_point: int, dtype: str) -> Array:
    """The integers nearest to `real`, same shape.

    Computed in float64; halves go to the even integer, as ONNX QuantizeLinear and XNNPACK do (TFLite's
    reference kernel rounds them away from zero); what lies outside of `dtype` saturates, infinities too.
    Raises `InputError` for NaN, which no integer stands for.
    """
    wide = np.asarray(real, np.float64)
    if np.isnan(wide).any():
        raise InputError("values with NaN cannot be quantized")
    limits = np.iinfo(dtype)
    # Added after rounding: the zero point is an integer and must not take precision from the halves.
    integers: Array = (np.rint(wide / scale) + zero_point).clip(limits.min, limits.max).astype(dtype)
    return integers


def dequantize(values: Array, scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """Real numbers, same shape. Widened first: in 8 bits the subtraction would wrap around."""
    return ((values.astype(np.int64) - zero_point) * float(scale)).astype(np.float32)


def to_real(values: Array, info: TensorInfo) -> npt.NDArray[np.float32]:
    """An output in the file's own type as float32; integers without a scale keep their value."""
    if info.scale is None or info.dtype not in INTEGERS:
        return values.astype(np.float32)
    return dequantize(values, info.scale, info.zero_point or 0)


class PixelEncoder:
    """Pixels to a model's input tensor: normalize, quantize, transpose, with as little work as possible.

    A quantized input has 256 possible values a channel, so normalizing and quantizing is one table;
    where the table is the identity, pixels go into the interpreter as they are.
    """

    def __init__(self, info: TensorInfo, preprocess: Preprocess, layout: Layout) -> None:
        self._info, self._preprocess, self._nchw = info, preprocess, layout == "nchw"
        self._tables: Array | None = None
        channels = info.shape[1] if self._nchw else info.shape[3]
        per_channel(preprocess.mean, channels)  # counts that contradict each other are found now, not later
        if info.dtype in INTEGERS:
            self._tables = _tables(info, preprocess, channels)
        levels = np.arange(256)
        same = self._tables is not None and info.dtype == "uint8" and bool((self._tables == levels).all())
        self._same = same
        self.identity = same and not self._nchw  # pixels are the tensor

    def __call__(self, pixels: Pixels) -> Array:
        """uint8 (N, H, W, C), channels in the preprocessing's order, to the file's type and layout."""
        values = pixels if self._same else self._values(pixels)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self._nchw else values

    def _values(self, pixels: Pixels) -> Array:
        if self._tables is None:
            return normalize(pixels, self._preprocess).astype(self._info.dtype, copy=False)
        if (self._tables == self._tables[0]).all():
            same: Array = np.take(self._tables[0], pixels)
            return same
        return np.stack([np.take(table, pixels[..., i]) for i, table in enumerate(self._tables)], axis=-1)


def _tables(info: TensorInfo, preprocess: Preprocess, channels: int) -> Array:
    """(C, 256): the integer of every pixel value. Without a scale the pixel is the value, less 128 for int8."""
    levels = np.arange(256, dtype=np.uint8)
    if info.scale is None:
        shift = 128 if info.dtype == "int8" else 0
        return np.tile((levels.astype(np.int32) - shift).astype(info.dtype), (channels, 1))
    real = normalize(np.tile(levels[:, None], (1, channels)), preprocess)
    return np.ascontiguousarray(quantize(real, info.scale, info.zero_point or 0, info.dtype).T)
