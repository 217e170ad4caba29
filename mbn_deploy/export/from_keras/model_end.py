"""The end of a network: the last function that it computes."""

from __future__ import annotations

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
# The last operations of networks without a head, whose outputs are features.
_FEATURES = {
    *("global_average_pool", "global_max_pool", "average_pool", "max_pool", "mean", "max"),
    *("unit_norm", "l2_normalize", "layer_norm"),
}
_WORDS = {
    "dense": "a Dense layer without activation",
    "conv": "a convolution without activation",
    "global_average_pool": "global average pooling",
    "global_max_pool": "global max pooling",
    "affine": "a scaling",
    "add_constant": "an addition",
}


@dataclass(frozen=True)
class ModelEnd:
    """The last operation of a network, behind which values are only moved.

    Attributes:
        function: `softmax`, `log_softmax` or `sigmoid` over the outputs; "none" for anything else.
        layer: its name.
        what: what it is, in words.
        features: whether the network has no head: it ends in pooling, a flattened map or a normalization.
    """

    function: EndFunction
    layer: str
    what: str
    features: bool


def model_end(graph: Graph) -> ModelEnd:
    """Tell how a graph ends; reshapes at its end change nothing of what its outputs mean."""
    writers = graph.writers()
    op = writers[graph.output]
    while op.kind == "reshape" and op.inputs[0] in writers:
        op = writers[op.inputs[0]]
    if _is_flattened_map(op, graph):
        return ModelEnd(
            "none", op.name, f"a flattened map ({op.kind.replace('_', ' ')} at each position)", features=True
        )
    return ModelEnd(
        function=_FUNCTIONS.get(op.kind, "none"),
        layer=op.name,
        what=_WORDS.get(op.kind, op.kind.replace("_", " ")),
        features=op.kind in _FEATURES,
    )


def _is_flattened_map(op: Op, graph: Graph) -> bool:
    """Tell whether a map of several positions was flattened; a softmax at each of them does not sum up to 1."""
    return graph.shapes[op.output][-1] != graph.shapes[graph.output][-1]
