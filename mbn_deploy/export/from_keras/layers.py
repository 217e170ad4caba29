"""One function a kind of Keras layer: what it appends to the graph, or why it cannot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.export.from_keras.builder import Builder, Call, Handler, Tensor, array, constant, pair, windowed
from mbn_deploy.export.from_keras.ops import activate, activation_name, relu, same_shapes
from mbn_deploy.graph.graph import OpKind


def _weights(call: Call, name: str) -> Floats:
    """A float32 array of the layer; quantized Keras layers have integers there."""
    if getattr(call.operation, "quantization_mode", None):
        raise call.refuse("it was quantized by Keras; export the float model, this program quantizes it itself")
    values = array(getattr(call.operation, name)).astype(np.float32)
    if not np.isfinite(values).all():
        raise call.refuse(f"its weights ({name}) have values that are not finite numbers")
    return values


def _bias(call: Call) -> Floats | None:
    return _weights(call, "bias") if call.operation.use_bias else None


def _weighted_window(
    b: Builder, call: Call, kind: OpKind, x: Tensor, kernel: Floats, *, part: str = "", **attrs: Any
) -> Tensor:
    """A convolution without its activation; `part` is set when the layer has more behind it."""
    channels = kernel.shape[3] if kind == "conv" else kernel.shape[2] * kernel.shape[3]
    name = call.name
    size = kernel.shape[:2]
    return windowed(b, call, kind, x, size, channels=channels, name=name, output=name + part, kernel=kernel, **attrs)


def _conv(b: Builder, call: Call) -> Tensor:
    layer, x = call.operation, call.image()
    kernel = _weights(call, "kernel")
    kind: OpKind = "conv"
    cin = x.shape[3]
    if layer.groups == cin and cin > 1:
        # Output channel o reads input channel o // (cout / cin): a depthwise kernel in its own order.
        kernel, kind = kernel.reshape(*kernel.shape[:2], cin, -1), "depthwise"
    elif layer.groups != 1:
        raise call.refuse(f"it has {layer.groups} groups on {cin} channels; 1 or one a channel is supported")
    return _with_activation(b, call, kind, x, kernel)


def _depthwise(b: Builder, call: Call) -> Tensor:
    return _with_activation(b, call, "depthwise", call.image(), _weights(call, "kernel"))


def _with_activation(b: Builder, call: Call, kind: OpKind, x: Tensor, kernel: Floats) -> Tensor:
    activation = activation_name(call, call.operation.activation)
    part = "" if activation == "linear" else "/linear"
    result = _weighted_window(b, call, kind, x, kernel, part=part, bias=_bias(call))
    return activate(b, call, result, activation, call.name)


def _separable(b: Builder, call: Call) -> Tensor:
    activation = activation_name(call, call.operation.activation)
    kernel = _weights(call, "depthwise_kernel")
    name, channels = f"{call.name}/depthwise", kernel.shape[2] * kernel.shape[3]
    size = kernel.shape[:2]
    x = windowed(b, call, "depthwise", call.image(), size, channels=channels, name=name, output=name, kernel=kernel)
    kernel = _weights(call, "pointwise_kernel")
    output = call.name if activation == "linear" else f"{call.name}/linear"
    shape = (*x.shape[:3], kernel.shape[3])
    result = b.emit("conv", call.name, (x,), shape, output, kernel=kernel, bias=_bias(call))
    return activate(b, call, result, activation, call.name)


def _dense(b: Builder, call: Call) -> Tensor:
    x, kernel = call.one(), _weights(call, "kernel")
    activation = activation_name(call, call.operation.activation)
    output = call.name if activation == "linear" else f"{call.name}/linear"
    shape = (*x.shape[:-1], kernel.shape[1])
    if len(x.shape) not in (2, 4):
        raise call.refuse(f"its input has shape {x.shape}; (N, C) or (N, H, W, C) is expected")
    kind: OpKind = "dense"
    if len(x.shape) == 4:  # a dense layer on every pixel is a pointwise convolution
        kind, kernel = "conv", kernel.reshape(1, 1, *kernel.shape)
    result = b.emit(kind, call.name, (x,), shape, output, kernel=kernel, bias=_bias(call))
    return activate(b, call, result, activation, call.name)


def _batch_norm(b: Builder, call: Call) -> Tensor:
    layer, x = call.operation, call.one()
    if _axis(layer.axis) not in (-1, len(x.shape) - 1):
        raise call.refuse(f"it normalizes axis {layer.axis}; only the last one (channels) is supported")
    scale = 1.0 / np.sqrt(constant(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * constant(layer.gamma)
    beta = constant(layer.beta) if layer.center else 0.0
    b.learned.add(call.name)
    return b.affine(call, x, scale, beta - constant(layer.moving_mean) * scale)


def _axis(axis: Any) -> Any:
    """Keras 2 wrote the one axis of a BatchNormalization as a list."""
    return axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis


def _rescaling(b: Builder, call: Call) -> Tensor:
    return b.affine(call, call.one(), constant(call.operation.scale), constant(call.operation.offset))


def _normalization(b: Builder, call: Call) -> Tensor:
    layer = call.operation
    import keras

    mean = constant(layer.mean)
    deviation = np.maximum(np.sqrt(constant(layer.variance)), keras.config.epsilon())
    if layer.invert:
        return b.affine(call, call.one(), deviation, mean)
    return b.affine(call, call.one(), 1.0 / deviation, -mean / deviation)


def _relu_layer(b: Builder, call: Call) -> Tensor:
    layer = call.operation
    return relu(b, call, layer.max_value, layer.negative_slope, layer.threshold)


def _activation(b: Builder, call: Call) -> Tensor:
    return activate(b, call, call.one(), activation_name(call, call.operation.activation), call.name)


def _softmax(b: Builder, call: Call) -> Tensor:
    x, axis = call.one(), call.operation.axis
    if axis not in (-1, len(x.shape) - 1):
        raise call.refuse(f"softmax over axis {axis}; only the last one is supported")
    return activate(b, call, x, "softmax", call.name)


def _add(b: Builder, call: Call) -> Tensor:
    return same_shapes(b, call, call.tensors, "add")


def _multiply(b: Builder, call: Call) -> Tensor:
    return same_shapes(b, call, call.tensors, "multiply")


def _zero_padding(b: Builder, call: Call) -> Tensor:
    x = call.image()
    (top, bottom), (left, right) = (pair(side) for side in call.operation.padding)
    n, height, width, channels = x.shape
    shape = (n, height + top + bottom, width + left + right, channels)
    return b.emit("pad", call.name, (x,), shape, pads=(top, bottom, left, right))


def _global_pool(kind: OpKind) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        x, keepdims = call.image(), bool(call.operation.keepdims)
        n, _, _, channels = x.shape
        shape = (n, 1, 1, channels) if keepdims else (n, channels)
        return b.emit(kind, call.name, (x,), shape, keepdims=keepdims)

    return handler


def _pool(kind: OpKind) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        x, window = call.image(), pair(call.operation.pool_size)
        name = call.name
        return windowed(b, call, kind, x, window, channels=x.shape[3], name=name, output=name, window=window)

    return handler


def _flatten(b: Builder, call: Call) -> Tensor:
    x = call.one()
    return b.emit("reshape", call.name, (x,), (x.shape[0], math.prod(x.shape[1:])))


def _reshape(b: Builder, call: Call) -> Tensor:
    x, target = call.one(), list(call.operation.target_shape)
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        target[target.index(-1)] = math.prod(x.shape[1:]) // known
    if math.prod(target) != math.prod(x.shape[1:]):
        raise call.refuse(f"its target {tuple(target)} has another number of values than its input {x.shape[1:]}")
    return b.emit("reshape", call.name, (x,), (x.shape[0], *target))


def _same_size(_: Builder, call: Call) -> Tensor:
    """Crops and resizes that leave the size as it is do nothing."""
    x, layer = call.image(), call.operation
    if (layer.height, layer.width) != x.shape[1:3]:
        raise call.refuse(
            f"it makes {layer.height}x{layer.width} out of {x.shape[1]}x{x.shape[2]} inside the model; the runtime "
            "resizes pictures itself, so let the model begin at its own size and export that"
        )
    return x


def _inactive(_: Builder, call: Call) -> Tensor:
    return call.one()


# Layers that act in training only. A test calls each of them to see that it returns what it was given.
REGULARIZATION = (
    *("Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout", "GaussianNoise", "ActivityRegularization"),
    "Identity",
)
AUGMENTATION = (
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
    *("RandomBrightness", "RandomHue", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomGrayscale"),
    *("RandomColorJitter", "RandomColorDegeneration", "RandomPosterization", "RandomPerspective", "RandomInvert"),
    *("RandomErasing", "RandomGaussianBlur", "RandomElasticTransform", "MixUp", "CutMix", "RandAugment", "AugMix"),
)
INACTIVE = (*REGULARIZATION, *AUGMENTATION)
# Keras 3 notes training=True in the calls of these unless told otherwise; `predict` says False, and that wins.
TRAINS_BY_DEFAULT = (*AUGMENTATION, "RandomCrop", "CenterCrop", "Resizing")

LAYERS: dict[str, Handler] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "ReLU": _relu_layer,
    "Activation": _activation,
    "Softmax": _softmax,
    "Add": _add,
    "Multiply": _multiply,
    "ZeroPadding2D": _zero_padding,
    "GlobalAveragePooling2D": _global_pool("global_average_pool"),
    "GlobalMaxPooling2D": _global_pool("global_max_pool"),
    "AveragePooling2D": _pool("average_pool"),
    "MaxPooling2D": _pool("max_pool"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "RandomCrop": _same_size,
    "CenterCrop": _same_size,
    "Resizing": _same_size,
    **dict.fromkeys(INACTIVE, _inactive),
}
