"""Files with activations and merges: those of Keras 3 in both formats, and of Keras 2 with TensorFlow's functions."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from keras_files import config_of, saved, with_config
from keras_graphs import agree, disturbed

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.load import load_keras

DATA = Path(__file__).parents[1] / "data"
X = np.random.default_rng(0).normal(0, 1, (3, 8, 8, 3)).astype(np.float32)


def network():
    """A network in which every merge and activation layer occurs, also as another layer's activation."""
    entry = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1, activation=layers.ReLU(2.0))(entry)
    x = layers.PReLU()(layers.Conv2D(4, 1, activation=layers.Activation("gelu"))(x))
    x = layers.Activation(layers.LeakyReLU(0.2))(layers.ELU(alpha=0.5)(layers.PReLU(shared_axes=[1, 2])(x)))
    y = layers.Conv2D(4, 1, activation="mish")(x)
    merges = (layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply)
    x = layers.Concatenate()([merge()([x, y]) for merge in merges])
    x = keras.ops.maximum(x, 0.1 * x) - keras.ops.minimum(keras.ops.tanh(x), 0.5)
    pooled = layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)
    x = layers.Concatenate()([*pooled, layers.Dot(axes=1)(pooled)])
    return disturbed(keras.Model(entry, layers.Dense(3, activation=layers.Softmax())(x)))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_keras_3_is_the_same_network(tmp_path, suffix):
    model = network()
    loaded = load_keras(saved(model, tmp_path / f"model{suffix}"))
    np.testing.assert_array_equal(np.asarray(loaded(X)), np.asarray(model(X)))
    agree(loaded, X)


def test_functions_and_layers_of_keras_2():
    data = np.load(DATA / "keras2_functions.npz")
    loaded = load_keras(DATA / "keras2_functions.h5")
    np.testing.assert_allclose(np.asarray(loaded(data["x"])), data["y"], rtol=1e-5, atol=1e-5 * np.ptp(data["y"]))
    agree(loaded, data["x"])


@pytest.mark.parametrize(
    ("activation", "thing"),
    [
        ({"class_name": "Custom>Own", "config": {}, "registered_name": "Custom>Own"}, "Custom>Own"),
        ({"class_name": "PReLU", "module": "keras.layers", "config": {"name": "p"}}, "PReLU"),  # has weights
        ({"class_name": "Lambda", "module": "keras.layers", "config": {"name": "l"}}, "Lambda"),
        ({"class_name": "ReLU", "module": "keras.layers", "config": {"max_value": {"class_name": "X"}}}, "max_value"),
        ({"class_name": "function", "config": "own"}, "own"),
    ],
)
def test_other_objects_as_activation_are_named(tmp_path, activation, thing):
    entry = keras.Input((8, 8, 3))
    path = saved(keras.Model(entry, layers.Conv2D(2, 1, name="c")(entry)), tmp_path / "model.keras")
    config = config_of(path)
    config["config"]["layers"][1]["config"]["activation"] = activation
    with pytest.raises(InputError, match=rf"'c'.*{thing}"):
        load_keras(with_config(path, config))


def test_a_layer_is_not_taken_for_the_operation_of_its_name(tmp_path):
    """A layer's settings hold objects that an operation's do not."""
    entry = keras.Input((8, 8, 3))
    path = saved(keras.Model(entry, layers.Subtract(name="s")([entry, entry])), tmp_path / "model.keras")
    config = config_of(path)
    del config["config"]["layers"][1]["config"]["trainable"]
    assert isinstance(load_keras(with_config(path, config)).get_layer("s"), layers.Subtract)
