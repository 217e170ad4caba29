"""Convolutions and dense layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, to_numpy
from mbn_deploy.export.from_keras.handlers.activations import activate, activation_name
from mbn_deploy.export.from_keras.handlers.windows import windowed
from mbn_deploy.graph.graph import OpKind


def conv(build: GraphBuilder, call: Call) -> Tensor:
    """Append Conv2D: `conv`, or `depthwise` with one group per channel.

    The kernel of a grouped convolution is spread over all channels, with zeros between different groups: so every step
    treats it like any other, and writers store the blocks that are not zero.
    """
    layer, x = call.operation, call.image()
    kernel = _weights(call, "kernel")
    channels = x.shape[3]
    if layer.groups == 1:
        return _convolution(build, call, "conv", x, kernel)
    if layer.groups == channels:
        # Output channel o reads input channel o // (cout / cin), in the order of a depthwise kernel.
        return _convolution(build, call, "depthwise", x, kernel.reshape(*kernel.shape[:2], channels, -1))
    return _convolution(build, call, "conv", x, _block_diagonal(kernel, layer.groups), groups=layer.groups)


def _block_diagonal(kernel: Floats, groups: int) -> Floats:
    """Return a grouped kernel (kh, kw, cin / groups, cout) as (kh, kw, cin, cout)."""
    height, width, inputs, outputs = kernel.shape
    result = np.zeros((height, width, groups, inputs, groups, outputs // groups), np.float32)
    for group, block in enumerate(np.split(kernel, groups, axis=3)):
        result[:, :, group, :, group] = block
    return result.reshape(height, width, groups * inputs, outputs)


def depthwise(build: GraphBuilder, call: Call) -> Tensor:
    """Append DepthwiseConv2D."""
    return _convolution(build, call, "depthwise", call.image(), _weights(call, "kernel"))


def separable(build: GraphBuilder, call: Call) -> Tensor:
    """Append SeparableConv2D: `depthwise` with the layer's window, then a pointwise `conv`."""
    kernel, pointwise = _weights(call, "depthwise_kernel"), _weights(call, "pointwise_kernel")
    name, channels = f"{call.name}/depthwise", kernel.shape[2] * kernel.shape[3]
    size = kernel.shape[:2]
    x = windowed(build, call, "depthwise", call.image(), size, channels=channels, name=name, output=name, kernel=kernel)
    shape = (*x.shape[:3], pointwise.shape[3])
    result = build.emit("conv", call.name, (x,), shape, _linear_name(call), kernel=pointwise, bias=_bias(call))
    return activate(build, call, result, activation_name(call, call.operation.activation), call.name)


def dense(build: GraphBuilder, call: Call) -> Tensor:
    """Append Dense: `dense` on feature vectors; on every pixel of an image it is a pointwise `conv`."""
    x, kernel = call.one(), _weights(call, "kernel")
    shape = (*x.shape[:-1], kernel.shape[1])
    if len(x.shape) not in (2, 3, 4):
        raise call.refuse(f"its input has shape {x.shape}; (N, C), (N, T, C) or (N, H, W, C) is expected")
    if len(x.shape) == 3:
        row = build.reshaped(f"{call.name}/row", x, (x.shape[0], 1, *x.shape[1:]))
        wide = dense(build, replace(call, name=f"{call.name}/dense", tensors=(row,)))
        return build.reshaped(call.name, wide, shape)
    kind: OpKind = "dense"
    if len(x.shape) == 4:
        kind, kernel = "conv", kernel.reshape(1, 1, *kernel.shape)
    result = build.emit(kind, call.name, (x,), shape, _linear_name(call), kernel=kernel, bias=_bias(call))
    return activate(build, call, result, activation_name(call, call.operation.activation), call.name)


def _convolution(build: GraphBuilder, call: Call, kind: OpKind, x: Tensor, kernel: Floats, **fields: Any) -> Tensor:
    result = windowed(
        build,
        call,
        kind,
        x,
        kernel.shape[:2],
        channels=kernel.shape[3] if kind == "conv" else kernel.shape[2] * kernel.shape[3],
        name=call.name,
        output=_linear_name(call),
        kernel=kernel,
        bias=_bias(call),
        **fields,
    )
    return activate(build, call, result, activation_name(call, call.operation.activation), call.name)


def _linear_name(call: Call) -> str:
    """Return the name of the layer's result before its activation."""
    linear = activation_name(call, call.operation.activation) == "linear"
    return call.name if linear else f"{call.name}/linear"


def _weights(call: Call, name: str) -> Floats:
    """Return an array of the layer in float32; layers quantized by Keras have integers there."""
    if getattr(call.operation, "quantization_mode", None):
        raise call.refuse("it was quantized by Keras; export the float model, this program quantizes it itself")
    values = to_numpy(getattr(call.operation, name)).astype(np.float32)
    if not np.isfinite(values).all():
        raise call.refuse(f"its weights ({name}) have values that are not finite numbers")
    return values


def _bias(call: Call) -> Floats | None:
    return _weights(call, "bias") if call.operation.use_bias else None
