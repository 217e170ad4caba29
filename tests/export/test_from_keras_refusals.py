"""Models that cannot become a graph: the layer, its class, its place, and why."""

import numpy as np
import pytest
from keras_graphs import layer_classes, model_of

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.convert import graph_from_keras


def refused(kl):
    """Layers, and the class, setting or value that the error names beside the layer's own name."""
    import keras

    ops = keras.ops
    nan = kl.Conv2D(2, 1, name="bad", bias_initializer=keras.initializers.Constant(np.nan))
    return {
        "lambda": (kl.Lambda(lambda x: x, name="bad"), "Lambda"),
        "custom": (custom(), "Own 'bad'"),
        "custom named as Keras'": (custom("Conv2D")(2, 1, name="bad"), "Conv2D 'bad'"),
        "resizing with antialias": (kl.Resizing(4, 4, antialias=True, name="bad"), "antialias"),
        "cubic resizing": (kl.Resizing(4, 4, interpolation="bicubic", name="bad"), "'bicubic'"),
        "cast to integers": (lambda x: ops.cast(x, "int32"), "int32"),
        "mean over pictures": (lambda x: ops.mean(x, axis=0, keepdims=True) * x, "batch"),
        "pictures in another order": (lambda x: x[::-1, 1:], "batch"),
        "normalized rows": (kl.LayerNormalization(axis=1, name="bad"), r"axes \(1,\)"),
        "another norm": (lambda x: ops.normalize(x, axis=-1, order=1), "order 1"),
        "padding with ones": (lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0), "zeros"),
        "transposed": (kl.Conv2DTranspose(2, 3, name="bad"), "Conv2DTranspose 'bad'"),
        "activation": (kl.Conv2D(2, 1, activation="sparsemax", name="bad"), "'sparsemax'"),
        "activation layer": (kl.Activation("tanh_shrink", name="bad"), "'tanh_shrink'"),
        "activation without weights": (kl.Conv2D(2, 1, activation=kl.PReLU(), name="bad"), "PReLU"),
        "own function": (kl.Activation(lambda x: x, name="bad"), "'<lambda>'"),
        "bound at zero": (kl.ReLU(0.0, name="bad"), "max_value"),
        "channels first": (kl.GlobalAveragePooling2D("channels_first", name="bad"), "channels_last"),
        "channels first padding": (kl.ZeroPadding2D(1, data_format="channels_first", name="bad"), "channels_last"),
        "flatten channels first": (kl.Flatten("channels_first", name="bad"), "channels_last"),
        "BatchNorm of rows": (kl.BatchNormalization(axis=1, name="bad"), "axis 1"),
        "softmax over an image": (kl.Softmax(axis=[1, 2], name="bad"), r"\[1, 2\]"),
        "dot of images": (lambda x: kl.Dot(axes=3, name="bad")([x, x]), "Dot 'bad'"),
        "pictures joined": (lambda x: kl.Concatenate(axis=0, name="bad")([x, x]), "axis 0"),
        "statistics of rows": (kl.Normalization(axis=1, mean=1.0, variance=2.0, name="bad"), r"shape \(.*9.*\)"),
        "training": (lambda x: kl.Dropout(0.5, name="bad")(x, training=True), "training=True"),
        "LSTM": (lambda x: kl.LSTM(2, name="bad")(kl.Reshape((9, 32))(x)), "LSTM 'bad'"),
        "dense on five axes": (lambda x: kl.Dense(2, name="bad")(kl.Reshape((9, 8, 2, 2))(x)), r"\(1, 9, 8, 2, 2\)"),
        "not finite": (nan, "kernel|bias"),
        "masked softmax": (lambda x: kl.Softmax(name="bad")(x, mask=x > 0), "Greater"),
        "quotient": (lambda x: x / ops.relu(x), "Divide|TrueDivide"),
        "by zero": (lambda x: x / 0.0, "Divide|TrueDivide"),
        "clip by channel": (lambda x: ops.clip(x, np.zeros(4, np.float32), 1.0), "Clip"),
        "deviation": (lambda x: ops.std(x, axis=(1, 2)), "Std"),
        "more axes": (lambda x: x + np.ones((1, 1, 1, 1, 4), np.float32), r"\(1, 1, 1, 1, 4\)"),
        "constant of a picture": (lambda x: x * np.ones((9, 8, 1), np.float32), r"\(9, 8, 1\)"),
    }


def custom(name="Own"):
    import keras

    if name == "Own":
        return type("Own", (keras.layers.Layer,), {"call": lambda self, x: x})(name="bad")
    return type(name, (getattr(keras.layers, name),), {})


@pytest.mark.filterwarnings("ignore:.*")  # that layers without weights were not built, that NaN is no number
@pytest.mark.parametrize("what", refused(layer_classes()))
def test_refusals(what):
    import keras

    layer, named = refused(keras.layers)[what]
    inputs = keras.Input((9, 8, 4))
    x = layer(inputs)
    model = keras.Model(inputs, x, name="mine")
    with pytest.raises(InputError, match=named) as caught:
        graph_from_keras(model)
    assert "in model 'mine'" in str(caught.value)


def test_the_place_in_a_nested_model_is_named():
    import keras

    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2DTranspose(2, 3, name="up")], name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"Conv2DTranspose 'up' \(operation 2 of 2 in model 'inner' inside 'outer'\)"):
        graph_from_keras(keras.Model(inputs, inner(inputs), name="outer"))


def test_nested_models_called_for_training():
    import keras

    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.BatchNormalization()], name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"'inner' .*training=True"):
        graph_from_keras(keras.Model(inputs, inner(inputs, training=True)))


def test_nested_models_that_cast_or_reshape_their_input():
    import keras

    inner = keras.Sequential([keras.Input((6, 6, 3), dtype="uint8"), keras.layers.Rescaling(1.0)], name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match="'inner'"):
        graph_from_keras(keras.Model(inputs, inner(inputs)))
    flat = keras.Sequential([keras.Input((6, 6)), keras.layers.Flatten()], name="flat")
    inputs = keras.Input((6, 6, 1))
    with pytest.raises(InputError, match=r"'flat' .*\(None, 6, 6\)"):
        graph_from_keras(keras.Model(inputs, flat(inputs)))


def test_nested_models_with_more_inputs():
    import keras

    a, b = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    inner = keras.Model([a, b], keras.layers.Subtract()([a, b]), name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"'inner' .*2 inputs"):
        graph_from_keras(keras.Model(inputs, inner([inputs, inputs])))


def test_models_quantized_by_keras():
    import keras

    layer = keras.layers.Dense(3, name="bad")
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), layer])
    layer.quantize("int8")
    with pytest.raises(InputError, match="Dense 'bad'"):
        graph_from_keras(model)


def test_models_that_are_no_graph():
    import keras

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(InputError, match="Own 'own'"):
        graph_from_keras(Own(name="own"))
    with pytest.raises(InputError, match="Sequential 'sequential"):
        graph_from_keras(keras.Sequential([keras.layers.Flatten()]))

    class Changed(keras.Model):
        """Looks functional, but does something else when it is called."""

        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs)

    inputs = keras.Input((4, 4, 3))
    with pytest.raises(InputError, match="Changed 'changed'"):
        graph_from_keras(Changed(inputs, keras.layers.Flatten()(inputs), name="changed"))


def test_inputs_and_outputs():
    import keras

    a, b = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    with pytest.raises(InputError, match="2 inputs and 1 outputs"):
        graph_from_keras(keras.Model([a, b], keras.layers.Add()([a, b])))
    with pytest.raises(InputError, match="1 inputs and 2 outputs"):
        graph_from_keras(keras.Model(a, [keras.layers.Flatten()(a), keras.layers.ReLU()(a)]))
    with pytest.raises(InputError, match=r"\(None, 7\)"):
        graph_from_keras(model_of(keras.layers.Dense(3), size=(7,)))
    nothing = model_of(keras.layers.Dropout(0.5))
    with pytest.raises(InputError, match=nothing.name):
        graph_from_keras(nothing)
