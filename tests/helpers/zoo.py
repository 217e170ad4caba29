"""The zoo: backbones, and the heads and entrances that people put on them, as tables.

A head is a function of the backbone's feature map (N, h, w, C); an entrance is a function of a picture (N, H, W, C)
with values in [0, 255], of any size, that returns what the backbone takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import applications, layers, ops

from mbn_deploy.models.build import build_model
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import network

CLASSES = 4
Tensor = Any


@dataclass(frozen=True)
class Variant:
    """A model of the zoo: a backbone, and the head or the entrance that is put on it."""

    backbone: str
    part: str

    def __str__(self) -> str:
        return f"{self.backbone}-{self.part}"


@dataclass(frozen=True)
class Part:
    """A head or an entrance.

    Attributes:
        layers: the function of the table above.
        scores: what has to be said with `--scores`, since the model does not say it.
        output_layer: the layer that is chosen with `--output-layer`.
        preprocess: what has to be said with `--preprocess`; the backbone's own where None.
        size: (height, width) of the picture for an entrance that changes it, as factors of the backbone's.
        channels: of the picture, for an entrance that changes them.
    """

    layers: Callable[[Tensor], Tensor]
    scores: str | None = None
    output_layer: str | None = None
    preprocess: str | None = None
    size: tuple[float, float] = (1, 1)
    channels: int | None = None


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network without its classifier, and how its input has to be normalized: None if it does that by itself."""

    model: keras.Model
    preprocess: str | None


def _application(kind: str, size: tuple[int, int], channels: int = 3, **options: Any) -> keras.Model:
    return getattr(applications, kind)(input_shape=(*size, channels), include_top=False, weights=None, **options)


def _own(name: str, alpha: float, size: int) -> keras.Model:
    """Return the features of a network of `build`, as a model of its own: it does not say any more what it takes."""
    whole = build_model(Spec(network(name), alpha, size, include_top=False))
    return keras.Model(whole.input, whole.output)


def _v3(kind: str, size: tuple[int, int], **options: Any) -> keras.Model:
    return _application(kind, size, include_preprocessing=True, **options)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "v1_0.25_32": lambda: Backbone(_application("MobileNet", (32, 32), alpha=0.25), "tf"),
    "v1_0.5_48x32": lambda: Backbone(_application("MobileNet", (48, 32), alpha=0.5), "unit"),
    "v1_0.25_grey": lambda: Backbone(_application("MobileNet", (32, 32), channels=1, alpha=0.25), "unit"),
    "v2_0.35_32": lambda: Backbone(_application("MobileNetV2", (32, 32), alpha=0.35), "tf"),
    "v2_0.5_32x64": lambda: Backbone(_application("MobileNetV2", (32, 64), alpha=0.5), "torch"),
    "v2_0.75_64": lambda: Backbone(_application("MobileNetV2", (64, 64), alpha=0.75), "tf"),
    "v3s_32": lambda: Backbone(_v3("MobileNetV3Small", (32, 32)), None),
    "v3s_0.75_48": lambda: Backbone(_v3("MobileNetV3Small", (48, 48), alpha=0.75), None),
    "v3s_min_32": lambda: Backbone(_v3("MobileNetV3Small", (32, 32), minimalistic=True), None),
    "v3l_32": lambda: Backbone(_v3("MobileNetV3Large", (32, 32), alpha=0.75), None),
    "v3l_min_48": lambda: Backbone(_v3("MobileNetV3Large", (48, 48), minimalistic=True, alpha=0.75), None),
    "own_v2": lambda: Backbone(_own("mobilenet_v2", 0.35, 32), "tf"),
}


def disturbed(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give a network weights and BatchNorm statistics as training leaves them: signals keep their size, none is 0."""
    rng = np.random.default_rng(seed)
    model.set_weights([_weight(weight, rng) for weight in model.get_weights()])
    return model


def _weight(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if weight.ndim > 1:
        depthwise = weight.ndim == 4 and weight.shape[-1] == 1
        inputs = weight[..., 0, 0].size if depthwise else weight[..., 0].size
        return rng.normal(0, 1, weight.shape) * np.sqrt(2 / inputs)
    return rng.uniform(0.8, 1.2, weight.shape) if weight.any() else rng.normal(0, 0.03, weight.shape)


def _pooled(x: Tensor) -> Tensor:
    return layers.GlobalAveragePooling2D()(x)


def _softmax(x: Tensor) -> Tensor:
    return layers.Dense(CLASSES, activation="softmax")(x)


def _both_poolings(merge: layers.Layer) -> Callable[[Tensor], Tensor]:
    return lambda x: _softmax(
        merge([layers.Dense(16)(layers.GlobalAveragePooling2D()(x)), layers.Dense(16)(layers.GlobalMaxPooling2D()(x))])
    )


def _concatenated(x: Tensor) -> Tensor:
    return _softmax(layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]))


def _hidden(*between: layers.Layer) -> Callable[[Tensor], Tensor]:
    """Return a head with a hidden dense layer and what follows it."""

    def head(x: Tensor) -> Tensor:
        x = layers.Dense(16)(_pooled(x))
        for layer in between:
            x = layer(x)
        return _softmax(x)

    return head


def _spatial(*between: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a head that works on the feature map before it is pooled."""

    def head(x: Tensor) -> Tensor:
        for function in between:
            x = function(x)
        return _softmax(_pooled(x))

    return head


def _pooled_by(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: _softmax(function(x))


def _spatial_attention(x: Tensor) -> Tensor:
    seen = layers.Concatenate()([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)])
    return layers.Multiply()([x, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(seen)])


def _channel_attention(x: Tensor) -> Tensor:
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="relu")(gate)
    return x * layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)


def _grouped(x: Tensor) -> Tensor:
    return layers.Conv2D(8, 3, padding="same", groups=4, activation="relu")(layers.Conv2D(16, 1)(x))


def _separable(x: Tensor) -> Tensor:
    return layers.SeparableConv2D(16, 3, padding="same", activation="relu")(x)


def _upsampled(x: Tensor) -> Tensor:
    return layers.Conv2D(8, 3, activation="relu", padding="same")(layers.UpSampling2D(2)(x))


def _linear(outputs: int) -> Callable[[Tensor], Tensor]:
    return lambda x: layers.Dense(outputs)(_pooled(x))


def _two_ends(x: Tensor) -> list[Tensor]:
    pooled = _pooled(x)
    return [layers.Dense(CLASSES, activation="softmax", name="kind")(pooled), layers.Dense(1, name="age")(pooled)]


HEADS: dict[str, Part] = {
    "plain": Part(lambda x: _softmax(_pooled(x))),
    "dropout": Part(_hidden(layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.3))),
    "softmax_layer": Part(lambda x: layers.Softmax()(layers.Dense(CLASSES)(_pooled(x)))),
    "activation_layer": Part(lambda x: layers.Activation("softmax")(layers.Dense(CLASSES)(_pooled(x)))),
    "flatten": Part(lambda x: _softmax(layers.Flatten()(layers.AveragePooling2D(x.shape[1:3])(x)))),
    "conv_head": Part(lambda x: layers.Softmax()(_pooled(layers.Conv2D(CLASSES, 1)(x)))),
    "max_pooling": Part(lambda x: _softmax(layers.GlobalMaxPooling2D()(x))),
    "concatenate": Part(_concatenated),
    "average": Part(_both_poolings(layers.Average())),
    "maximum": Part(_both_poolings(layers.Maximum())),
    "minimum": Part(_both_poolings(layers.Minimum())),
    "subtract": Part(_both_poolings(layers.Subtract())),
    "add": Part(_both_poolings(layers.Add())),
    "multiply": Part(_both_poolings(layers.Multiply())),
    "leaky_relu": Part(_hidden(layers.LeakyReLU(0.2))),
    "prelu": Part(_hidden(layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.05, 0.4, seed=1)))),
    "elu": Part(_hidden(layers.ELU())),
    "selu": Part(_hidden(layers.Activation("selu"))),
    "gelu": Part(_hidden(layers.Activation("gelu"))),
    "tanh": Part(_hidden(layers.Activation("tanh"))),
    "swish": Part(_hidden(layers.Activation("swish"))),
    "mish": Part(_hidden(layers.Activation("mish"))),
    "relu_bound": Part(_hidden(layers.ReLU(max_value=1.5))),
    "relu_slope": Part(_hidden(layers.ReLU(max_value=3.0, negative_slope=0.1))),
    "activation_object": Part(_hidden(layers.Dense(16, activation=layers.LeakyReLU(0.1)))),
    "layer_normalization": Part(_hidden(layers.LayerNormalization())),
    "unit_normalization": Part(_hidden(layers.UnitNormalization())),
    "l2_normalize": Part(_hidden(ops.normalize)),
    "log_softmax": Part(
        lambda x: layers.Activation("log_softmax")(layers.Dense(CLASSES)(_pooled(x))), scores="classes"
    ),
    "mean": Part(_pooled_by(lambda x: ops.mean(x, axis=(1, 2)))),
    "max": Part(_pooled_by(lambda x: ops.max(x, axis=[1, 2]))),
    "reshape": Part(
        _pooled_by(lambda x: layers.Reshape((x.shape[-1],))(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    ),
    "permute": Part(_pooled_by(lambda x: layers.Flatten()(layers.Permute((3, 1, 2))(x)))),
    "squeeze": Part(_pooled_by(lambda x: ops.squeeze(ops.mean(x, axis=(1, 2), keepdims=True), axis=(1, 2)))),
    "slice": Part(_pooled_by(lambda x: _pooled(x)[:, 2:-3])),
    "spatial_attention": Part(_spatial(_spatial_attention)),
    "channel_attention": Part(_spatial(_channel_attention)),
    "grouped": Part(_spatial(_grouped)),
    "separable": Part(_spatial(_separable)),
    "upsampling": Part(_spatial(_upsampled)),
    "binary": Part(lambda x: layers.Dense(1, activation="sigmoid")(_pooled(x))),
    "binary_logit": Part(_linear(1), scores="binary"),
    "labels": Part(lambda x: layers.Dense(CLASSES, activation="sigmoid")(_pooled(x))),
    "labels_logits": Part(_linear(CLASSES), scores="labels"),
    "logits": Part(_linear(CLASSES), scores="classes"),
    "values": Part(_linear(2), scores="values"),
    "positive_value": Part(lambda x: layers.Dense(1, activation="relu")(_pooled(x)), scores="values"),
    "embedding": Part(_pooled, scores="embedding"),
    "unit_embedding": Part(lambda x: layers.UnitNormalization()(layers.Dense(16)(_pooled(x))), scores="embedding"),
    "two_outputs": Part(_two_ends, output_layer="kind"),
    "second_output": Part(_two_ends, output_layer="age", scores="values"),
}

ENTRANCES: dict[str, Part] = {
    "as_it_is": Part(lambda x: x),
    "rescaling": Part(layers.Rescaling(1 / 127.5, offset=-1.0)),
    "normalization": Part(layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0, 3500.0, 3400.0])),
    "batch_norm": Part(layers.BatchNormalization(), preprocess="unit"),
    "augmentation": Part(
        lambda x: layers.Rescaling(1 / 255)(layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(x)))
    ),
    "noise": Part(lambda x: layers.GaussianNoise(0.1)(layers.Rescaling(1 / 255)(x))),
    "resizing": Part(lambda x: layers.Rescaling(1 / 255)(layers.Resizing(32, 32)(x)), size=(1.5, 1.25)),
    "center_crop": Part(lambda x: layers.Rescaling(1 / 255)(layers.CenterCrop(32, 32)(x)), size=(1.25, 1.5)),
    "cropping": Part(lambda x: layers.Rescaling(1 / 255)(layers.Cropping2D(((3, 5), (4, 4)))(x)), size=(1.25, 1.25)),
    "cast": Part(lambda x: ops.cast(x, "float32") / 255.0),
    "caffe": Part(applications.vgg16.preprocess_input),
    "torch": Part(applications.densenet.preprocess_input),
    "tf": Part(applications.mobilenet.preprocess_input),
    "bgr": Part(lambda x: layers.Rescaling(1 / 255)(x[..., ::-1])),
    "grey_repeat": Part(lambda x: ops.repeat(layers.Rescaling(1 / 255)(x), 3, axis=-1), channels=1),
    "grey_tile": Part(lambda x: layers.Rescaling(1 / 255)(ops.tile(x, [1, 1, 1, 3])), channels=1),
    "grey_concat": Part(lambda x: layers.Concatenate()([layers.Rescaling(1 / 255)(x)] * 3), channels=1),
    "grey_conv": Part(lambda x: layers.Conv2D(3, 1)(layers.Rescaling(1 / 255)(x)), channels=1),
    "padding": Part(lambda x: layers.Rescaling(1 / 255)(layers.ZeroPadding2D(4)(x)), size=(0.75, 0.75)),
}

# Heads that are refused, and what the error has to name.
REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "recurrent": (lambda x: _softmax(layers.LSTM(8, name="memory")(layers.Reshape((-1, x.shape[-1]))(x))), "memory"),
    "attention": (
        lambda x: _softmax(_pooled(layers.MultiHeadAttention(2, 8, name="heads")(x, x))),
        "heads",
    ),
    "python_code": (lambda x: _softmax(layers.Lambda(ops.sin, name="wave")(_pooled(x))), "wave"),
    "operation": (lambda x: _softmax(ops.sin(_pooled(x))), "sin"),
    "segmentation": (layers.Conv2D(CLASSES, 1, activation="softmax", name="mask"), "mask"),
}

# Entrances are tried on backbones that take 32 x 32 colour pictures.
SQUARE = ("v1_0.25_32", "v2_0.35_32", "v3s_32", "v3s_min_32", "v3l_32", "own_v2")
FORMS = (
    "memory",
    ".keras",
    "memory",
    "memory",
    ".h5",
    "memory",
    "memory",
)  # how the model is handed to the export, in turn


def variants(each: int) -> list[Variant]:
    """Return every head on `each` backbones and every entrance on three, spread evenly over the backbones."""
    names, chosen = list(BACKBONES), []
    for number, head in enumerate(HEADS):
        chosen += [Variant(names[(number + step * len(names) // each) % len(names)], head) for step in range(each)]
    for number, entrance in enumerate(ENTRANCES):
        chosen += [Variant(SQUARE[(number + 2 * step) % len(SQUARE)], entrance) for step in range(3)]
    return chosen


@cache
def backbone(name: str) -> Backbone:
    """Build a backbone once for all of its variants, with features of size 1: a softmax of large logits is 0 or 1."""
    made = BACKBONES[name]()
    model = disturbed(made.model, seed=sum(map(ord, name)))
    last = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)][-1]
    noise = np.random.default_rng(1).uniform(-1, 1, (4, *model.input.shape[1:]))
    spread = np.std(model(noise if made.preprocess else noise * 127.5 + 127.5))
    gamma, beta, mean, variance = last.get_weights()
    last.set_weights([gamma / spread, beta / spread, mean, variance])
    return Backbone(model, made.preprocess)


def build(variant: Variant) -> keras.Model:
    """Build the model of a variant. Its head has weights of its own; the backbone's layers are shared."""
    base = backbone(variant.backbone)
    keras.utils.set_random_seed(sum(map(ord, variant.part)))
    if variant.part in HEADS:
        return keras.Model(base.model.input, HEADS[variant.part].layers(base.model.output), name=variant.part)
    part = ENTRANCES[variant.part]
    height, width, channels = base.model.input.shape[1:]
    picture = keras.Input((int(height * part.size[0]), int(width * part.size[1]), part.channels or channels))
    pooled = layers.GlobalAveragePooling2D()(base.model(part.layers(picture)))
    return keras.Model(picture, layers.Dense(CLASSES, activation="softmax")(pooled), name=variant.part)


def options(variant: Variant) -> dict[str, Any]:
    """Return what a user has to say when he exports the variant."""
    part = HEADS.get(variant.part) or ENTRANCES[variant.part]
    own = "raw" if variant.part in ENTRANCES else backbone(variant.backbone).preprocess
    said = {"preprocess": part.preprocess or own, "scores": part.scores, "output_layer": part.output_layer}
    return {name: value for name, value in said.items() if value is not None}
