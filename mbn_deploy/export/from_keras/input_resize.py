"""A Resizing at the beginning of a model that takes pictures of any size: the file's preprocessing does the same."""

from __future__ import annotations

from typing import Any, NamedTuple

from mbn_deploy.export.from_keras.handlers.training_only import INACTIVE
from mbn_deploy.export.from_keras.walk import function_of, is_keras_class
from mbn_deploy.manifest import Resize

# What works on single pixels, and so may stand in front of the Resizing as well as behind it.
_PIXELWISE = frozenset(
    {
        *INACTIVE,
        *("Cast", "Rescaling", "Normalization", "Add", "Subtract", "Multiply", "Divide", "TrueDivide"),
    }
)


class InputResize(NamedTuple):
    """The size (height, width) to which a model resizes its input, and how."""

    size: tuple[int, int]
    kind: Resize


def input_resize(model: Any) -> InputResize | None:
    """Return the Resizing of a model (or of one nested in it) whose pictures may have any size.

    Returns None if the model does not begin with one, or with one that the runtime does not do in the same way.
    """
    function = function_of(model, f"the model {model.name!r}")
    nodes = [node for nodes in function._nodes_by_depth.values() for node in nodes]  # noqa: SLF001 (as in `walk`)
    tensor, scaled = function.inputs[0], False
    while True:
        readers = [node for node in nodes if any(one is tensor for one in node.input_tensors)]
        if len(readers) != 1 or len(readers[0].outputs) != 1:
            return None
        operation = readers[0].operation
        if hasattr(operation, "layers"):
            return input_resize(operation)
        kind = type(operation).__name__
        if kind == "Resizing" and is_keras_class(type(operation)):
            found = _resize_of(operation)
            # Zeros around a picture that is rescaled before are not black.
            return None if found is not None and found.kind == "keras-pad" and scaled else found
        if kind not in _PIXELWISE:
            return None
        tensor, scaled = readers[0].outputs[0], scaled or kind not in (*INACTIVE, "Cast")


def _resize_of(layer: Any) -> InputResize | None:
    size = (int(layer.height), int(layer.width))
    if layer.antialias:
        return None
    if layer.interpolation == "nearest":
        whole = not (layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio)
        return InputResize(size, "keras-nearest") if whole else None
    if layer.interpolation != "bilinear" or layer.fill_value != 0:
        return None
    if layer.crop_to_aspect_ratio:
        return InputResize(size, "keras-crop")
    return InputResize(size, "keras-pad" if layer.pad_to_aspect_ratio else "keras")
