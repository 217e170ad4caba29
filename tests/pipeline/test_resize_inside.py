"""A model that resizes pictures of any size itself: the exported files do it in the same way."""

import pytest

from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import open_source


def resizing_model():
    import keras

    kl = keras.layers
    inputs = keras.Input((None, None, 3))
    x = kl.Rescaling(1 / 255)(kl.Resizing(24, 16, crop_to_aspect_ratio=True)(inputs))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(4, 3)(x))
    return keras.Model(inputs, kl.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize(("option", "resize", "who"), [(None, "keras-crop", "model"), ("squash", "squash", "option")])
def test_the_files_resize_as_the_model_does(option, resize, who):
    source = open_source(resizing_model(), ExportOptions(resize=option, precisions=("float32",)))
    assert (source.description.preprocess.resize, source.resize_from) == (resize, who)
    assert source.size == (24, 16)
