"""Layers that scale and shift every channel by constants, and those that normalize each vector by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, constant
from mbn_deploy.export.from_keras.handlers.reductions import positive_axes


def batch_norm(build: GraphBuilder, call: Call) -> Tensor:
    """Append BatchNormalization with its moving statistics."""
    layer, x = call.operation, call.one()
    if _axis(layer.axis) not in (-1, len(x.shape) - 1):
        raise call.refuse(f"it normalizes axis {layer.axis}; only the last one (channels) is supported")
    scale = 1.0 / np.sqrt(constant(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * constant(layer.gamma)
    beta = constant(layer.beta) if layer.center else 0.0
    build.batch_norms.add(call.name)
    return build.affine(call, x, scale, beta - constant(layer.moving_mean) * scale)


def _axis(axis: Any) -> Any:
    """Return the axis of a BatchNormalization; Keras 2 wrote a list of one."""
    return axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis


def rescaling(build: GraphBuilder, call: Call) -> Tensor:
    """Append Rescaling."""
    return build.affine(call, call.one(), constant(call.operation.scale), constant(call.operation.offset))


def normalization(build: GraphBuilder, call: Call) -> Tensor:
    """Append Normalization, adapted or with given statistics."""
    import keras

    layer = call.operation
    mean = constant(layer.mean)
    deviation = np.maximum(np.sqrt(constant(layer.variance)), keras.config.epsilon())
    if layer.invert:
        return build.affine(call, call.one(), deviation, mean)
    return build.affine(call, call.one(), 1.0 / deviation, -mean / deviation)


def layer_norm(build: GraphBuilder, call: Call) -> Tensor:
    """Append LayerNormalization over the last axis, or the last few."""
    layer = call.operation
    if getattr(layer, "rms_scaling", False):
        raise call.refuse("rms_scaling=True")
    x = _vectors(build, call, call.one(), layer.axis)
    result = build.emit("normalize", f"{call.name}/normalize", (x,), x.shape, epsilon=float(layer.epsilon))
    gamma = 1.0 if layer.gamma is None else constant(layer.gamma).reshape(-1)
    beta = 0.0 if layer.beta is None else constant(layer.beta).reshape(-1)
    result = build.affine(call, result, gamma, beta)
    return build.reshaped(f"{call.name}/reshaped", result, call.one().shape)


def unit_norm(build: GraphBuilder, call: Call) -> Tensor:
    """Append UnitNormalization: the L2 norm of each vector becomes 1."""
    return _l2_normalized(build, call, epsilon=1e-12)


def normalize(build: GraphBuilder, call: Call) -> Tensor:
    """Append `keras.ops.normalize` of order 2."""
    import keras

    if call.operation.order != 2:
        raise call.refuse(f"order {call.operation.order}; only 2 is supported")
    epsilon = call.operation.epsilon
    return _l2_normalized(build, call, epsilon=keras.config.epsilon() if epsilon is None else float(epsilon))


def _l2_normalized(build: GraphBuilder, call: Call, epsilon: float) -> Tensor:
    x = _vectors(build, call, call.one(), call.operation.axis)
    result = build.emit("l2_normalize", call.name, (x,), x.shape, epsilon=epsilon)
    return build.reshaped(f"{call.name}/reshaped", result, call.one().shape)


def _vectors(build: GraphBuilder, call: Call, x: Tensor, axis: Any) -> Tensor:
    """Return `x` with the axes that are normalized together as its last one."""
    axes, rank = positive_axes(call, axis, len(x.shape)), len(x.shape)
    if axes != tuple(range(rank - len(axes), rank)):
        raise call.refuse(
            f"it normalizes axes {axes} of {rank}; only the last ones, counted from the end, are supported"
        )
    if len(axes) == 1:
        return x
    return build.reshaped(f"{call.name}/vectors", x, (*x.shape[: rank - len(axes)], math.prod(x.shape[axes[0] :])))
