"""Pooling, and the arithmetic of windows that convolutions share."""

from __future__ import annotations

from typing import Any

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor, pair
from mbn_deploy.graph.graph import OpKind, output_length, same_pads


def windowed(
    build: GraphBuilder,
    call: Call,
    kind: OpKind,
    x: Tensor,
    size: tuple[int, int],
    *,
    channels: int,
    name: str,
    output: str,
    **fields: Any,
) -> Tensor:
    """Append a convolution or pooling with the layer's strides, padding and dilation.

    `size` is the window's (height, width), `channels` those of the output; `fields` are further ones of `Op`.
    """
    layer = call.operation
    stride = pair(layer.strides)
    dilation = pair(getattr(layer, "dilation_rate", 1))
    if layer.padding not in ("same", "valid"):
        raise call.refuse(f"padding {layer.padding!r}")
    sides = [(0, 0), (0, 0)]
    if layer.padding == "same":
        sides = [same_pads(x.shape[i + 1], size[i], stride[i], dilation[i]) for i in (0, 1)]
    area = [output_length(x.shape[i + 1], size[i], stride[i], dilation[i], sum(sides[i])) for i in (0, 1)]
    if min(area) < 1:
        raise call.refuse(f"a window of {size} does not fit into its input of shape {x.shape}")
    return build.emit(
        kind,
        name,
        (x,),
        (x.shape[0], *area, channels),
        output,
        stride=stride,
        dilation=dilation,
        pads=(*sides[0], *sides[1]),
        **fields,
    )


def pool(kind: OpKind) -> Handler:
    """Return the handler of AveragePooling2D or MaxPooling2D."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        x, window = call.image(), pair(call.operation.pool_size)
        name = call.name
        return windowed(build, call, kind, x, window, channels=x.shape[3], name=name, output=name, window=window)

    return handler


def global_pool(kind: OpKind) -> Handler:
    """Return the handler of GlobalAveragePooling2D or GlobalMaxPooling2D."""

    def handler(build: GraphBuilder, call: Call) -> Tensor:
        x, keepdims = call.image(), bool(call.operation.keepdims)
        batch, _, _, channels = x.shape
        shape = (batch, 1, 1, channels) if keepdims else (batch, channels)
        return build.emit(kind, call.name, (x,), shape, keepdims=keepdims)

    return handler
