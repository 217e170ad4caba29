"""The result of converting a Keras model."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.arrays import Array, Doubles
from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.model_end import ModelEnd, model_end
from mbn_deploy.graph.graph import Graph
from mbn_deploy.manifest import Resize


@dataclass(frozen=True, eq=False)
class InputAffine:
    """`scale * x + offset`, one value each per channel, that a model applies to its input.

    `takes_pixels`: the model itself says that x is a pixel in [0, 255], by a rescaling or an integer input. A
    BatchNorm does not say so. `reverses_channels`: before that, the model turns RGB to BGR, or back; scale and offset
    are in the order after that.
    """

    scale: Doubles
    offset: Doubles
    takes_pixels: bool
    reverses_channels: bool = False

    def apply(self, x: Array) -> Array:
        """Return what the model makes of its input `x` (N, H, W, C)."""
        return (x[..., ::-1] if self.reverses_channels else x) * self.scale + self.offset


@dataclass(frozen=True, eq=False)
class KerasGraph:
    """A Keras model as a float graph (not folded yet, see `graph.fold`).

    `graph` begins behind `input_affine`, the rescaling at the model's input; it is None if there is none. Where the
    model takes pictures of any size and begins with a Resizing, `graph` begins behind that, too, and `resize` says how
    it resizes; else it is None.

    Layers of half precision (`mixed_float16`, `mixed_bfloat16`) are computed in float32 with their float32 weights:
    the same function with less rounding than in Keras.
    """

    graph: Graph
    input_affine: InputAffine | None
    resize: Resize | None = None

    @property
    def end(self) -> ModelEnd:
        """How the network ends."""
        return model_end(self.graph)

    @property
    def outputs(self) -> int:
        """Number of outputs; raises `InputError` if there is not one vector of them, (N, outputs)."""
        shape, end = self.graph.shapes[self.graph.output], self.end
        if len(shape) == 2 and not end.segments:
            return shape[1]
        model = f"model {self.graph.name!r} ends in {end.what} ({end.layer!r}) and has outputs of shape {shape}:"
        if end.segments or (len(shape) > 2 and end.function != "none"):
            raise InputError(
                f"{model} it answers for each position of a picture (a segmentation or detection). Models with one "
                "answer a picture, (N, outputs), are exported"
            )
        raise InputError(
            f"{model} a {'feature map' if len(shape) == 4 else 'sequence'}; (N, outputs) is expected. Add "
            "GlobalAveragePooling2D or Flatten behind it, or end the network at another layer with --output-layer LAYER"
        )
