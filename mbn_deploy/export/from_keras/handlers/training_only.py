"""Layers that act in training only: a test calls each of them to see that inference returns its input."""

from __future__ import annotations

from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Tensor

REGULARIZATION = (
    *("Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout", "GaussianNoise", "ActivityRegularization"),
    "Identity",
)
AUGMENTATION = (
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
    *("RandomBrightness", "RandomHue", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomGrayscale"),
    *("RandomColorJitter", "RandomColorDegeneration", "RandomPosterization", "RandomPerspective", "RandomInvert"),
    *("RandomErasing", "RandomGaussianBlur", "RandomElasticTransform", "MixUp", "CutMix", "RandAugment", "AugMix"),
)
INACTIVE = (*REGULARIZATION, *AUGMENTATION)
KERAS2_AUGMENTATION = ("RandomHeight", "RandomWidth")  # not in Keras 3, which takes an Identity in their place
# Keras 3 writes training=True into the calls of these unless told otherwise; `predict` passes False, which wins.
TRAINS_BY_DEFAULT = (*AUGMENTATION, "RandomCrop", "CenterCrop", "Resizing")


def inactive(_: GraphBuilder, call: Call) -> Tensor:
    """Pass on the input."""
    return call.one()
