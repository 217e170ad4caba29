"""Write tests/data/keras2.{h5,keras,npz}: a tiny model as Keras 2 saves it, with its input and output.

keras2_functions.{h5,npz} are the same for its activation layers, its merges, and TensorFlow's functions like them.

Needs Keras 2 in an environment of its own: pip install tensorflow-cpu tf_keras

It has what Keras 3 cannot read by itself: functions of TensorFlow between the layers (those of MobileNetV3 and of
`preprocess_input`), slashes in names, `groups` of depthwise convolutions, axes as lists, augmentation layers, and a
nested model of which one half is frozen, so that its weights do not stand in the order of its layers.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
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


def functions() -> Any:
    """Build a model of activations, with and without settings, and of merges."""
    nn = tf.nn
    x = inputs = L.Input((8, 8, 3))
    x = L.LeakyReLU(alpha=0.15)(L.Conv2D(4, 3, activation="leaky_relu")(x))
    x = L.ELU(alpha=0.5)(L.PReLU(shared_axes=[1, 2])(x))
    x = L.ThresholdedReLU(theta=0.05)(L.ReLU(max_value=3.0, negative_slope=0.1)(x))
    x = L.Conv2D(4, 1, activation=L.LeakyReLU(0.2))(x)
    x = tf.concat([nn.leaky_relu(x, alpha=0.3), nn.gelu(x - 0.1, approximate=True), x], axis=-1)
    x = tf.minimum(tf.maximum(x, tf.tanh(x * 2.0)), 3.0)
    x = nn.elu(tf.abs(x)) - nn.selu(nn.softplus(x))
    x = L.Concatenate()([L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(tf.square(x))])
    x = L.Average()([x, L.Subtract()([x, L.Dense(24, activation="softsign")(x)]), L.Dense(24, activation="gelu")(x)])
    return keras.Model(inputs, nn.log_softmax(L.Dense(4)(x)))


def main() -> None:
    """Write the models with random weights, all of them away from 0 and 1."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    OUT.mkdir(exist_ok=True)
    write(classifier(), "keras2", 16, ("h5", "keras"))
    write(functions(), "keras2_functions", 8, ("h5",))


def write(model: Any, name: str, size: int, suffixes: tuple[str, ...]) -> None:
    """Write a model with other weights, and what it computes."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [w * rng.uniform(0.5, 1.5, w.shape) + rng.uniform(-0.1, 0.2, w.shape) for w in model.get_weights()]
    )
    x = rng.uniform(0, 255, (3, size, size, 3)).astype(np.float32)
    np.savez_compressed(OUT / f"{name}.npz", x=x, y=model(x, training=False).numpy())
    for suffix in suffixes:
        model.save(OUT / f"{name}.{suffix}")


if __name__ == "__main__":
    main()
