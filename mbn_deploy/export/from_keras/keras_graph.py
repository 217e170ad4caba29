"""The result of converting a Keras model."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.answers import Scores
from mbn_deploy.arrays import Doubles
from mbn_deploy.errors import InputError
from mbn_deploy.graph.graph import Graph


@dataclass(frozen=True, eq=False)
class InputAffine:
    """`scale * x + offset`, one value each per channel, that a model applies to its input.

    `takes_pixels`: the model itself says that x is a pixel in [0, 255], by a rescaling or an integer input. A
    BatchNorm does not say so.
    """

    scale: Doubles
    offset: Doubles
    takes_pixels: bool


@dataclass(frozen=True, eq=False)
class KerasGraph:
    """A Keras model as a float graph (not folded yet, see `graph.fold`).

    `graph` begins behind `input_affine`, the rescaling at the model's input; it is None if there is none.

    `scores` says what the output holds: probabilities of classes that exclude each other ("softmax"), one
    independent probability per class ("sigmoid"), or neither ("logits"). A single sigmoid output has `classes` 1:
    it is the probability of the positive class, whose name is the only label. A single output without activation is
    the logit of that.

    Layers of half precision (`mixed_float16`, `mixed_bfloat16`) are computed in float32 with their float32 weights:
    the same function with less rounding than in Keras.
    """

    graph: Graph
    input_affine: InputAffine | None
    scores: Scores

    @property
    def classes(self) -> int:
        """Number of classes; raises `InputError` if the output is not (N, classes)."""
        shape = self.graph.shapes[self.graph.output]
        if len(shape) != 2:
            raise InputError(
                f"model {self.graph.name!r} is no classifier: its output has shape {shape}, (N, classes) is expected"
            )
        return shape[1]
