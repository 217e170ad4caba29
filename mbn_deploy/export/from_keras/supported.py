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
    "supported are convolutions (plain, depthwise, separable), Dense, BatchNormalization, ReLU and ReLU6, "
    "hard-swish, hard-sigmoid, swish, sigmoid, softmax, Add, Multiply, ZeroPadding2D, average and max pooling, "
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
    "ReLU": activations.relu,
    "Activation": activations.activation_layer,
    "Softmax": activations.softmax,
    "Add": arithmetic.combine("add"),
    "Multiply": arithmetic.combine("multiply"),
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


class Operation(NamedTuple):
    """An operation without a layer, such as `x + 3.0` or `keras.ops.relu(x)`, and where Keras 3 has its class."""

    module: str
    handler: Handler


_NUMPY, _NN = "keras.src.ops.numpy", "keras.src.ops.nn"

OPERATIONS: Mapping[str, Operation] = {
    "Add": Operation(_NUMPY, arithmetic.add),
    "Subtract": Operation(_NUMPY, arithmetic.subtract),
    "Multiply": Operation(_NUMPY, arithmetic.multiply),
    "Divide": Operation(_NUMPY, arithmetic.divide),
    "TrueDivide": Operation(_NUMPY, arithmetic.divide),
    "Negative": Operation(_NUMPY, arithmetic.negative),
    "Clip": Operation(_NUMPY, activations.clip),
    "Relu": Operation(_NN, activations.activation("relu")),
    "Relu6": Operation(_NN, activations.activation("relu6")),
    "HardSilu": Operation(_NN, activations.activation("hard_swish")),
    "HardSigmoid": Operation(_NN, activations.activation("hard_sigmoid")),
    "Sigmoid": Operation(_NN, activations.activation("sigmoid")),
    "Silu": Operation(_NN, activations.activation("silu")),
    "Softmax": Operation(_NN, activations.softmax),
    "ReLU": Operation("keras.src.activations.activations", activations.relu),
}
