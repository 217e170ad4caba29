"""The tables of supported Keras layers and operations, each with the handler that appends it to the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mbn_deploy.export.from_keras.builder import Handler
from mbn_deploy.export.from_keras.handlers import (
    activations,
    arithmetic,
    convolutions,
    normalization,
    shapes,
    training_only,
    windows,
)

SUPPORTED = (
    "supported are convolutions (plain, depthwise, separable), Dense, BatchNormalization, the activations of Keras "
    "(but sparse and gated ones), Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot, ZeroPadding2D, "
    "average and max pooling, "
    "Flatten, Reshape, Rescaling, Normalization, dropout and augmentation layers, and models nested in models"
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
    "RandomCrop": shapes.resize_to_same_size,
    "CenterCrop": shapes.resize_to_same_size,
    "Resizing": shapes.resize_to_same_size,
    **dict.fromkeys(training_only.INACTIVE, training_only.inactive),
}


class SupportedOperation(NamedTuple):
    """An operation without a layer, such as `x + 3.0` or `keras.ops.relu(x)`, and where Keras 3 has its class."""

    module: str
    handler: Handler


_NUMPY, _NN = "keras.src.ops.numpy", "keras.src.ops.nn"
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
}
