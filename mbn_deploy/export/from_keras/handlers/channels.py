"""Channels that are flipped, picked, copied or averaged: the same linear map of the channels at every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor

# Of the tensors whose channels are picked or copied one by one by a map: pictures. In tensors with more channels, maps
# would cost more than moving the values.
MAX_PICKED = 4
# The weights of `keras.ops.image.rgb_to_grayscale` and `tf.image.rgb_to_grayscale`.
LUMINANCE = (0.2989, 0.5870, 0.1140)


def map_channels(build: GraphBuilder, x: Tensor, matrix: Doubles, name: str) -> Tensor:
    """Append `x @ matrix` over the last axis of the image `x`; `matrix` is (channels, new channels).

    A map of a map is one map of the source, and a map that changes nothing is the source itself.
    """
    source, before = build.channel_maps.get(x.name, (x, None))
    matrix = matrix if before is None else before @ matrix
    if matrix.shape[0] == matrix.shape[1] and (matrix == np.eye(len(matrix))).all():
        return source
    shape = (*source.shape[:3], matrix.shape[1])
    result = build.emit("channel_map", name, (source,), shape, kernel=matrix[None, None].astype(np.float32))
    build.channel_maps[result.name] = source, matrix
    return result


def can_pick(x: Tensor) -> bool:
    """Tell whether the channels of `x` are picked and copied by a map: whether it is a picture."""
    return len(x.shape) == 4 and x.shape[3] <= MAX_PICKED


def joined_maps(build: GraphBuilder, tensors: Sequence[Tensor], name: str) -> Tensor | None:
    """Return the concatenation over channels of tensors that are all maps of one picture, as one map; else None."""
    sources = [build.channel_maps.get(x.name, (x,))[0] for x in tensors]
    source = sources[0]
    if not can_pick(source) or any(other.name != source.name for other in sources):
        return None
    matrices = [build.channel_maps[x.name][1] if x.name in build.channel_maps else np.eye(x.shape[-1]) for x in tensors]
    return map_channels(build, source, np.concatenate(matrices, axis=1), name)


def rgb_to_grayscale(build: GraphBuilder, call: Call) -> Tensor:
    """Append the luminance of a colour picture."""
    x = call.image()
    if x.shape[3] != 3:
        raise call.refuse(f"its input has {x.shape[3]} channels, 3 are expected")
    return map_channels(build, x, np.array(LUMINANCE)[:, None], call.name)
