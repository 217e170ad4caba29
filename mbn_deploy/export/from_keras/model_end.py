"""The end of a network: the last function that it computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mbn_deploy.graph.graph import Graph, Op

EndFunction = Literal["softmax", "log_softmax", "sigmoid", "none"]

_FUNCTIONS: dict[str, EndFunction] = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "sigmoid",
}
# Operations that make features: a network that ends in them has no head, or ends at a hidden layer.
_FEATURES = {
    *("global_average_pool", "global_max_pool", "average_pool", "max_pool", "channel_max"),
    *("normalize", "l2_normalize"),
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "gelu", "gelu_tanh", "hard_swish", "mish"),
}
_TRANSPARENT = {"reshape", "affine", "add_constant", "concat", "transpose"}  # features stay features behind them
_WORDS = {
    "dense": "a Dense layer without activation",
    "conv": "a convolution without activation",
    "global_average_pool": "global average pooling",
    "global_max_pool": "global max pooling",
    "affine": "a scaling or BatchNormalization",
    "add_constant": "an addition",
    "concat": "a concatenation",
    "l2_normalize": "a normalization to length 1",
    "normalize": "a normalization",
    "relu6": "ReLU6",
    "relu": "ReLU",
}


@dataclass(frozen=True)
class ModelEnd:
    """The last operation of a network, behind which values are only moved.

    Attributes:
        function: `softmax`, `log_softmax` or `sigmoid` over the outputs; "none" for anything else.
        layer: its name.
        what: what it is, in words.
        features: whether it is pooling, a flattened map, a normalization or the activation of a hidden layer.
        segments: whether a softmax or sigmoid at each position of a map was flattened.
    """

    function: EndFunction
    layer: str
    what: str
    features: bool
    segments: bool = False


def model_end(graph: Graph) -> ModelEnd:
    """Tell how a graph ends; reshapes and transposes at its end do not change what its outputs mean."""
    writers = graph.writers()
    op = _computed_by(graph.output, writers)
    flattened = _is_flattened_map(op, graph)
    what = _WORDS.get(op.kind, op.kind.replace("_", " "))
    return ModelEnd(
        function="none" if flattened else _function(op, writers),
        layer=op.name,
        what=f"a flattened map ({what} at each position)" if flattened else what,
        features=flattened or _makes_features(op, graph, writers),
        segments=flattened and op.kind in _FUNCTIONS,
    )


def _computed_by(tensor: str, writers: Mapping[str, Op]) -> Op:
    """Return the operation that computes a tensor, of which others may have moved the values to other axes."""
    op = writers[tensor]
    while op.kind in ("reshape", "transpose") and op.inputs[0] in writers:
        op = writers[op.inputs[0]]
    return op


def _function(op: Op, writers: Mapping[str, Op]) -> EndFunction:
    """Return the function at the end; sigmoids that are joined are sigmoids, softmaxes are no longer one softmax."""
    if op.kind != "concat":
        return _FUNCTIONS.get(op.kind, "none")
    parts = [_function(_computed_by(name, writers), writers) if name in writers else "none" for name in op.inputs]
    return "sigmoid" if set(parts) == {"sigmoid"} else "none"


def _makes_features(op: Op, graph: Graph, writers: Mapping[str, Op]) -> bool:
    """Tell whether nothing but pooling, flattening or a normalization comes before `op`, instead of a head."""
    if op.kind in _FEATURES or _is_flattened_map(op, graph):
        return True
    before = [writers.get(name) for name in op.inputs]
    return op.kind in _TRANSPARENT and all(one is not None and _makes_features(one, graph, writers) for one in before)


def _is_flattened_map(op: Op, graph: Graph) -> bool:
    """Tell whether `op` computes a map of several positions, which the network's end has flattened.

    A softmax at each position does not sum up to 1.
    """
    return len(graph.shapes[graph.output]) == 2 and math.prod(graph.shapes[op.output][1:-1]) > 1
