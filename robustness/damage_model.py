"""A model file opened to be damaged: its layers, its quantization and the parameters of its operations.

`damage_tflite` and `damage_onnx` open the two formats; the damages themselves (`damage_kinds`) see only these classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rewrite = Callable[[str], str]


@dataclass
class Quantization:
    """The scale and zero point of a tensor: one for it, or one for each slice along an axis. Arrays may be replaced."""

    name: str
    scales: Array
    zeros: Array


@dataclass
class Layer:
    """A convolution or dense layer with constant weights.

    `axis` is that of output channels. `quantization` is that of integer weights, `bias_quantization` that of an integer
    bias. `first` tells the layer that reads the picture, whose input channels are at `inputs_axis`.
    """

    name: str
    weights: Array
    axis: int
    inputs_axis: int
    bias: Array | None = None
    quantization: Quantization | None = None
    bias_quantization: Quantization | None = None

    @property
    def channels(self) -> int:
        """The number of output channels."""
        return int(self.weights.shape[self.axis])

    def reorder(self, order: npt.NDArray[np.intp], *, weights: bool = True, bias: bool = True) -> None:
        """Put output channels into another order, with their scales."""
        if weights:
            self.weights = np.take(self.weights, order, self.axis)
            _reorder(self.quantization, order)
        if bias and self.bias is not None:
            self.bias = self.bias[order]
            _reorder(self.bias_quantization, order)


def _reorder(quantization: Quantization | None, order: npt.NDArray[np.intp]) -> None:
    if quantization is not None and quantization.scales.size == len(order):
        quantization.scales = quantization.scales[order]


@dataclass(frozen=True)
class Parameter:
    """One way in which an operation may be changed: `kind` names the change, `apply` makes it."""

    kind: str
    name: str
    apply: Callable[[], None]


class EditedModel(ABC):
    """An opened file.

    Attributes:
        layers: in the order of the graph; the last one computes the logits.
        activations: the quantization of computed tensors.
        constants: other constant operands by name, as the numbers 3 and 6 of h-swish.
    """

    layers: list[Layer]
    activations: list[Quantization]
    constants: dict[str, Array]

    @abstractmethod
    def parameters(self) -> list[Parameter]:
        """Return every single change of an operation's parameter that is known."""

    @abstractmethod
    def describe(self, rewrite: Rewrite) -> None:
        """Replace the description (JSON text) that the file carries."""

    @abstractmethod
    def finish(self) -> bytes:
        """Return the bytes of the changed file."""


def open_model(data: bytes, file_format: str) -> EditedModel:
    """Open a `.tflite` or `.onnx` file of this project."""
    if file_format == "tflite":
        from damage_tflite import TFLiteModel

        return TFLiteModel(data)
    from damage_onnx import OnnxModel

    return OnnxModel(data)
