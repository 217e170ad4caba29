"""Write tests/data/keras2.{h5,keras,npz}: a tiny model as Keras 2 saves it, with its input and output.

Needs Keras 2 in an environment of its own: pip install tensorflow-cpu tf_keras

It has what Keras 3 cannot read by itself: functions of TensorFlow between the layers (those of MobileNetV3 and of
`preprocess_input`), slashes in names, `groups` of depthwise convolutions, axes as lists, augmentation layers, and a
nested model of which one half is frozen, so that its weights do not stand in the order of its layers.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

OUT = Path(__file__).parents[1] / "tests" / "data"
L = keras.layers


def hard_swish(x: Any) -> Any:
    """Write h-swish as keras.applications of Keras 2 does."""
    return L.Multiply()([x, L.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)])


def backbone() -> Any:
    """Build three blocks of one shape; the middle one is frozen."""
    x = inputs = L.Input((16, 16, 3))
    x = L.ZeroPadding2D(((0, 1), (0, 1)), name="Conv/pad")(x)
    x = L.Conv2D(6, 3, 2, use_bias=False, name="Conv")(x)
    for block in range(3):
        y = L.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"block_{block}/depthwise")(x)
        y = hard_swish(L.BatchNormalization(name=f"block_{block}/BatchNorm")(y))
        x = x + L.Conv2D(6, 1, name=f"block_{block}/project")(y)
    model = keras.Model(inputs, L.SeparableConv2D(8, 3, activation="swish", name="last")(x), name="back/bone")
    for layer in model.layers:
        layer.trainable = not layer.name.startswith("block_1")
    return model


def classifier() -> Any:
    """Build a model of augmentation, preprocessing as functions, the backbone and a head."""
    inputs = L.Input((16, 16, 3))
    x = keras.Sequential([L.RandomFlip("horizontal"), L.RandomRotation(0.2)], name="augment")(inputs)
    x = keras.applications.mobilenet_v2.preprocess_input(x)
    x = L.GlobalAveragePooling2D()(backbone()(x, training=False))
    return keras.Model(inputs, L.Dense(5)(L.Dropout(0.2)(x)))


def main() -> None:
    """Write the model with random weights, all of them away from 0 and 1."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rng = np.random.default_rng(0)
    model = classifier()
    model.set_weights(
        [w * rng.uniform(0.5, 1.5, w.shape) + rng.uniform(-0.1, 0.2, w.shape) for w in model.get_weights()]
    )
    x = rng.uniform(0, 255, (3, 16, 16, 3)).astype(np.float32)
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(OUT / "keras2.npz", x=x, y=model(x, training=False).numpy())
    for suffix in ("h5", "keras"):
        model.save(OUT / f"keras2.{suffix}")


if __name__ == "__main__":
    main()
