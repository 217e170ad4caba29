"""Layers that scale and shift every channel by constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor, constant


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
