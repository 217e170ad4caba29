"""The tables of supported Keras layers and operations, each with the handler that appends it to the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mbn_deploy.export.from_keras.builder import Handler
from mbn_deploy.export.from_keras.handlers import (
    activations,
    arithmetic,
    channels,
    convolutions,
    geometry,
    normalization,
    reductions,
    shapes,
    slices,
    training_only,
    windows,
)

SUPPORTED = (
    "supported are convolutions (plain, grouped, depthwise, separable), Dense, BatchNormalization, "
    "LayerNormalization, UnitNormalization, the activations of Keras (but sparse and gated ones), Add, Subtract, "
    "Multiply, Average, Maximum, Minimum, Concatenate, Dot, ZeroPadding2D, average and max pooling, Flatten, Reshape, "
    "Permute, Cropping2D, CenterCrop, Resizing, UpSampling2D, Rescaling, Normalization, means, sums and maxima, "
    "slices, dropout and augmentation layers, and models nested in models"
)

LAYERS: Mapping[str, Handler] = {
    "Conv2D": convolutions.conv,
    "DepthwiseConv2D": convolutions.depthwise,
    "SeparableConv2D": convolutions.separable,
    "Dense": convolutions.dense,
    "BatchNormalization": normalization.batch_norm,
    "Rescaling": normalization.rescaling,
    "Normalization": normalization.normalization,
    "Activation": activations.activation_layer,
    **dict.fromkeys(("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"), activations.with_settings),
    "Add": arithmetic.combine("add"),
    "Subtract": arithmetic.subtract,
    "Multiply": arithmetic.combine("multiply"),
    "Average": arithmetic.average,
    "Maximum": arithmetic.combine("maximum"),
    "Minimum": arithmetic.combine("minimum"),
    "Concatenate": arithmetic.concatenate,
    "Dot": arithmetic.dot,
    "GlobalAveragePooling2D": windows.global_pool("global_average_pool"),
    "GlobalMaxPooling2D": windows.global_pool("global_max_pool"),
    "AveragePooling2D": windows.pool("average_pool"),
    "MaxPooling2D": windows.pool("max_pool"),
    "ZeroPadding2D": shapes.zero_padding,
    "Flatten": shapes.flatten,
    "Reshape": shapes.reshape,
    "Permute": shapes.permute,
    "RandomCrop": geometry.random_crop,
    "CenterCrop": geometry.center_crop,
    "Resizing": geometry.resizing,
    "UpSampling2D": geometry.upsampling,
    "Cropping2D": slices.cropping,
    "LayerNormalization": normalization.layer_norm,
    "UnitNormalization": normalization.unit_norm,
    **dict.fromkeys(training_only.INACTIVE, training_only.inactive),
}


class SupportedOperation(NamedTuple):
    """An operation without a layer, such as `x + 3.0` or `keras.ops.relu(x)`, and where Keras 3 has its class."""

    module: str
    handler: Handler


_NUMPY, _NN, _CORE, _IMAGE = "keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.core", "keras.src.ops.image"
_ACTIVATIONS = "keras.src.activations.activations"

OPERATIONS: Mapping[str, SupportedOperation] = {
    "Add": SupportedOperation(_NUMPY, arithmetic.add),
    "Subtract": SupportedOperation(_NUMPY, arithmetic.subtract),
    "Multiply": SupportedOperation(_NUMPY, arithmetic.multiply),
    "Divide": SupportedOperation(_NUMPY, arithmetic.divide),
    "TrueDivide": SupportedOperation(_NUMPY, arithmetic.divide),
    "Negative": SupportedOperation(_NUMPY, arithmetic.negative),
    "Maximum": SupportedOperation(_NUMPY, arithmetic.extreme("maximum")),
    "Minimum": SupportedOperation(_NUMPY, arithmetic.extreme("minimum")),
    "Concatenate": SupportedOperation(_NUMPY, arithmetic.concatenate),
    **dict.fromkeys(("Abs", "Absolute"), SupportedOperation(_NUMPY, arithmetic.absolute)),
    "Square": SupportedOperation(_NUMPY, arithmetic.square),
    "Clip": SupportedOperation(_NUMPY, activations.clip),
    "Tanh": SupportedOperation(_NUMPY, activations.activation("tanh")),
    "Relu": SupportedOperation(_NN, activations.activation("relu")),
    "Relu6": SupportedOperation(_NN, activations.activation("relu6")),
    "HardSilu": SupportedOperation(_NN, activations.activation("hard_swish")),
    "HardSigmoid": SupportedOperation(_NN, activations.activation("hard_sigmoid")),
    "Sigmoid": SupportedOperation(_NN, activations.activation("sigmoid")),
    "Silu": SupportedOperation(_NN, activations.activation("silu")),
    "HardTanh": SupportedOperation(_NN, activations.activation("hard_tanh")),
    "Selu": SupportedOperation(_NN, activations.activation("selu")),
    "Softplus": SupportedOperation(_NN, activations.activation("softplus")),
    "Softsign": SupportedOperation(_NN, activations.activation("softsign")),
    "LogSigmoid": SupportedOperation(_NN, activations.activation("log_sigmoid")),
    **dict.fromkeys(
        ("LeakyRelu", "Elu", "Celu", "Gelu", "Softmax", "LogSoftmax"),
        SupportedOperation(_NN, activations.with_settings),
    ),
    "ReLU": SupportedOperation(_ACTIVATIONS, activations.with_settings),
    "Mish": SupportedOperation(_ACTIVATIONS, activations.activation("mish")),
    "Cast": SupportedOperation(_CORE, shapes.cast),
    "ConvertToTensor": SupportedOperation(_CORE, shapes.cast),
    "Mean": SupportedOperation(_NUMPY, reductions.reduction("mean")),
    "Average": SupportedOperation(_NUMPY, reductions.reduction("mean")),
    "Sum": SupportedOperation(_NUMPY, reductions.reduction("sum")),
    "Max": SupportedOperation(_NUMPY, reductions.reduction("max")),
    "Amax": SupportedOperation(_NUMPY, reductions.reduction("max")),
    "Min": SupportedOperation(_NUMPY, reductions.reduction("min")),
    "Amin": SupportedOperation(_NUMPY, reductions.reduction("min")),
    "Reshape": SupportedOperation(_NUMPY, shapes.reshape_all),
    "Squeeze": SupportedOperation(_NUMPY, shapes.squeeze),
    "ExpandDims": SupportedOperation(_NUMPY, shapes.expand),
    "Transpose": SupportedOperation(_NUMPY, shapes.transpose),
    "Swapaxes": SupportedOperation(_NUMPY, shapes.swap_axes),
    "Moveaxis": SupportedOperation(_NUMPY, shapes.move_axis),
    "Pad": SupportedOperation(_NUMPY, shapes.pad),
    "GetItem": SupportedOperation(_NUMPY, slices.subscript),
    "Flip": SupportedOperation(_NUMPY, slices.flip),
    "Split": SupportedOperation(_NUMPY, slices.split),
    "Take": SupportedOperation(_NUMPY, slices.take),
    "Repeat": SupportedOperation(_NUMPY, slices.repeat),
    "Tile": SupportedOperation(_NUMPY, slices.tile),
    "Stack": SupportedOperation(_NUMPY, slices.stack),
    "Normalize": SupportedOperation(_NN, normalization.normalize),
    "Resize": SupportedOperation(_IMAGE, geometry.resize),
    "RGBToGrayscale": SupportedOperation(_IMAGE, channels.rgb_to_grayscale),
}

# Layers and operations that move or compare values, so that integers stay what they are in floating point.
KEEPS_INTEGERS = frozenset(
    {
        *training_only.INACTIVE,
        *("Cast", "Concatenate", "Cropping2D", "ExpandDims", "Flatten", "Flip", "GetItem", "Max", "Amax", "Maximum"),
        *("Min", "Amin", "Minimum", "Moveaxis", "Pad", "Permute", "RandomCrop", "Repeat", "Reshape"),
        *("Split", "Squeeze", "Stack", "Swapaxes", "Take", "Tile", "Transpose", "ZeroPadding2D"),
    }
)
