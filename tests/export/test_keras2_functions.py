"""Functions of TensorFlow between the layers of Keras 2 files, against TensorFlow itself."""

import numpy as np
import pytest
from keras_graphs import RNG, agree

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.config import repair_config

SIZE = (9, 8, 6)
ALL = {"start": None, "stop": None, "step": None}
ELLIPSIS = {"class_name": "__ellipsis__"}


def calls():
    """Return each function's name with the arguments that Keras 2 stores, and the same call in Python."""
    import tensorflow as tf

    return {
        "subscript": ("__operators__.getitem", {"slice_spec": [ELLIPSIS, {**ALL, "step": -1}]}, lambda x: x[..., ::-1]),
        "subscript of rows": (
            "__operators__.getitem",
            {"slice_spec": [ALL, {**ALL, "start": 1, "stop": -1}, 2]},
            lambda x: x[:, 1:-1, 2],
        ),
        "new axis": ("__operators__.getitem", {"slice_spec": [ALL, 1, None, ALL]}, lambda x: x[:, 1, None, :]),
        "bias": (
            "nn.bias_add",
            {"bias": [1.0, -2.0, 3.0, 0.5, 0.0, 7.0], "data_format": "NHWC"},
            lambda x: x + np.float32([1.0, -2.0, 3.0, 0.5, 0.0, 7.0]),
        ),
        "cast": ("cast", {"dtype": "float32"}, lambda x: x),
        "mean": ("math.reduce_mean", {"axis": [1, 2]}, lambda x: tf.reduce_mean(x, [1, 2])),
        "max": ("math.reduce_max", {"axis": -1, "keepdims": True}, lambda x: tf.reduce_max(x, -1, keepdims=True)),
        "min": ("math.reduce_min", {"axis": 1}, lambda x: tf.reduce_min(x, 1)),
        "sum": ("math.reduce_sum", {"axis": [1, 2], "keepdims": False}, lambda x: tf.reduce_sum(x, [1, 2])),
        "l2": ("math.l2_normalize", {"axis": -1}, lambda x: tf.math.l2_normalize(x, -1)),
        "l2 with epsilon": (
            "nn.l2_normalize",
            {"axis": 3, "epsilon": 400.0},
            lambda x: tf.math.l2_normalize(x, 3, epsilon=400.0),
        ),
        "reshape": ("reshape", {"shape": [-1, 12, 36]}, lambda x: tf.reshape(x, [-1, 12, 36])),
        "expand": ("expand_dims", {"axis": 1}, lambda x: tf.expand_dims(x, 1)),
        "transpose": (
            "compat.v1.transpose",
            {"perm": [0, 2, 1, 3], "conjugate": False},
            lambda x: tf.transpose(x, [0, 2, 1, 3]),
        ),
        "pad": (
            "compat.v1.pad",
            {"paddings": [[0, 0], [1, 2], [0, 1], [0, 0]], "mode": "CONSTANT", "constant_values": 0},
            lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
        ),
        "reverse": ("reverse", {"axis": [-1]}, lambda x: tf.reverse(x, [-1])),
        "repeat": ("repeat", {"repeats": 2, "axis": 1}, lambda x: tf.repeat(x, 2, axis=1)),
        "resize": ("image.resize", {"size": [4, 13]}, lambda x: tf.image.resize(x, (4, 13))),
        "resize nearest": (
            "image.resize",
            {"size": [4, 13], "method": "nearest"},
            lambda x: tf.image.resize(x, (4, 13), method="nearest"),
        ),
        "split": ("split", {"num_or_size_splits": [2, 4], "axis": -1}, lambda x: tf.split(x, [2, 4], -1)[0]),
        "split in halves": ("split", {"num_or_size_splits": 2, "axis": 3}, lambda x: tf.split(x, 2, 3)[0]),
    }


def keras2_model(function, options, size=SIZE):
    """Return the model that is loaded from the configuration of a call of `function`, as Keras 2 stores it."""
    import keras

    kind = "SlicingOpLambda" if function == "__operators__.getitem" else "TFOpLambda"
    source = {"batch_input_shape": [None, *size], "dtype": "float32", "sparse": False, "ragged": False, "name": "in"}
    layers = [
        {"class_name": "InputLayer", "config": source, "name": "in", "inbound_nodes": []},
        {
            "class_name": kind,
            "config": {"name": "tf.f", "trainable": True, "dtype": "float32", "function": function},
            "name": "tf.f",
            "inbound_nodes": [["in", 0, 0, options]],
        },
    ]
    config = {"name": "m", "layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [["tf.f", 0, 0]]}
    repaired = repair_config({"class_name": "Functional", "config": config}, keras2=True, where="m.h5")
    return keras.saving.deserialize_keras_object(repaired)


@pytest.mark.parametrize("what", calls())
def test_functions(what):
    import keras

    function, options, expected = calls()[what]
    model = keras2_model(function, options)
    x = RNG.normal(0, 4, (2, *SIZE)).astype(np.float32)
    np.testing.assert_allclose(model(x), expected(x), atol=1e-5)
    # A convolution before it: nothing is taken out as preprocessing.
    inputs = keras.Input((9, 8, 3))
    agree(keras.Model(inputs, model(keras.layers.Conv2D(6, 1)(inputs))))


@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("image.grayscale_to_rgb", {}),
        ("tile", {"multiples": [1, 1, 1, 3]}),
        ("repeat", {"repeats": 3, "axis": -1}),
    ],
)
def test_grey_pictures_of_three_channels(function, options):
    model = keras2_model(function, options, size=(9, 8, 1))
    x = RNG.normal(0, 4, (2, 9, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(x), np.repeat(x, 3, axis=-1))


@pytest.mark.parametrize(
    ("function", "options", "named"),
    [
        ("image.adjust_hue", {}, "image.adjust_hue"),
        ("image.resize", {"size": [4, 4], "preserve_aspect_ratio": True}, "preserve_aspect_ratio"),
        ("reshape", {}, "shape"),
        ("compat.v1.gather", {"indices": ["other", 0, 0], "axis": -1}, "other"),
        ("__operators__.getitem", {"slice_spec": [["other", 0, 0]]}, "other"),
        ("__operators__.getitem", {"slice_spec": [{**ALL, "start": 1.5}]}, "1.5"),
    ],
)
def test_other_functions_and_arguments_are_refused(function, options, named):
    with pytest.raises(InputError, match=named):
        keras2_model(function, options)
