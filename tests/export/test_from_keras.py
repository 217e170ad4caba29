"""Keras models against the graphs made of them, run operation by operation."""

from pathlib import Path

import numpy as np
import pytest
from graph_reference import run_graph
from keras_graphs import RNG, agree, disturbed, layer_classes, model_of, pictures

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.model_preprocess import input_preprocess
from mbn_deploy.graph.graph import WEIGHTED
from mbn_deploy.manifest import Preprocess
from mbn_deploy.models.api import build
from mbn_deploy.models.tables import NETWORKS

SHARED = Path(__file__).parents[3] / "shared"


# The networks


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 33), (0.5, 64)])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, alpha, size):
    model = disturbed(build(name, alpha=alpha, size=size, classes=7, classifier_activation=None))
    x = pictures(model) if "v3" in name else pictures(model) / 127.5 - 1
    found = agree(model, x)
    assert (found.outputs, found.end.function) == (7, "none")
    kinds = {op.kind for op in found.graph.ops}
    assert "sigmoid" not in kinds
    assert ("hard_swish" in kinds) == ("v3" in name and "minimalistic" not in name)
    assert ("hard_sigmoid" in kinds) == ("v3" in name and "minimalistic" not in name)


@pytest.mark.parametrize("preprocessing", [True, False])
@pytest.mark.parametrize("minimalistic", [True, False])
def test_mobilenet_v3_of_keras(preprocessing, minimalistic):
    import keras

    options = {"include_preprocessing": preprocessing, "minimalistic": minimalistic}
    model = keras.applications.MobileNetV3Small((40, 40, 3), 0.5, weights=None, classes=4, **options)
    found = agree(disturbed(model))
    assert found.end.function == "softmax"
    if preprocessing:
        assert input_preprocess(found, None).mean == (127.5, 127.5, 127.5)
        assert input_preprocess(found, None).std == (127.5, 127.5, 127.5)
    else:
        with pytest.raises(UsageError, match="--preprocess"):
            input_preprocess(found, None)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "MobileNetV3Large"])
def test_transfer_learning(name):
    """As the tutorials do it: augmentation, preprocessing as operations, a backbone as a layer, an own head."""
    import keras

    layers = keras.layers
    backbone = getattr(keras.applications, name)((32, 32, 3), alpha=0.5, include_top=False, weights=None)
    backbone.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])(inputs)
    x = layers.RandomZoom(0.1)(x)
    x = x if "V3" in name else x / 127.5 - 1.0
    x = layers.GlobalAveragePooling2D()(backbone(x, training=False))
    outputs = layers.Dense(5)(layers.Dropout(0.2)(x))
    found = agree(disturbed(keras.Model(inputs, outputs)))
    assert input_preprocess(found, None).std == (127.5, 127.5, 127.5)
    assert found.end.function == "none"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
@pytest.mark.parametrize(
    ("name", "alpha", "file"),
    [
        ("mobilenet_v1", 0.25, "mobilenet_v1_0.25_224.h5"),
        ("mobilenet_v1", 1.0, "mobilenet_v1_1.0_224.weights.h5"),
        ("mobilenet_v2", 1.0, "mobilenet_v2_1.0_224.weights.h5"),
        ("mobilenet_v3_small", 1.0, "mobilenet_v3_small_1.0_224.weights.h5"),
        ("mobilenet_v3_large_minimalistic", 1.0, "mobilenet_v3_large_minimalistic_1.0_224.weights.h5"),
    ],
)
def test_real_weights_on_photographs(name, alpha, file):
    from PIL import Image

    files = sorted((SHARED / "imagenet" / "calibration").glob("*.jpg"))[:3]
    photos = [np.asarray(Image.open(one).convert("RGB").resize((224, 224)), np.float32) for one in files]
    x = np.stack(photos) if "v3" in name else np.stack(photos) / 127.5 - 1
    agree(build(name, alpha=alpha, weights=SHARED / "models" / "float" / file), x, atol=2e-5)


# Heads


@pytest.mark.parametrize(
    ("activation", "units", "function"),
    [("softmax", 4, "softmax"), ("sigmoid", 4, "sigmoid"), ("sigmoid", 1, "sigmoid"), (None, 4, "none")],
)
def test_heads(activation, units, function):
    import keras

    kl = keras.layers
    head = [kl.Dense(8, activation="relu"), kl.BatchNormalization(), kl.Dropout(0.5), kl.Dense(units, activation)]
    found = agree(model_of(kl.Rescaling(1 / 2550), kl.Conv2D(4, 3), kl.Flatten(), *head))
    assert (found.outputs, found.end.function) == (units, function)


@pytest.mark.parametrize(
    ("tail", "function"),
    [
        (lambda kl: [kl.GlobalAveragePooling2D(keepdims=True), kl.Softmax(), kl.Flatten()], "softmax"),
        (lambda kl: [kl.GlobalAveragePooling2D(), kl.Activation("sigmoid"), kl.Reshape((3,))], "sigmoid"),
        (lambda kl: [kl.Softmax(), kl.Flatten()], "none"),  # it does not sum up to 1
        (lambda kl: [kl.Softmax(), kl.GlobalAveragePooling2D(), kl.Rescaling(2.0)], "none"),
        (lambda kl: [kl.GlobalAveragePooling2D(), kl.Activation("swish")], "none"),
    ],
)
def test_the_end_is_what_is_computed(tail, function):
    import keras

    model = model_of(keras.layers.Conv2D(3, 3), *tail(keras.layers))
    assert agree(model, pictures(model) / 255).end.function == function


def test_a_map_is_no_classifier():
    import keras

    found = graph_from_keras(model_of(keras.layers.Conv2D(3, 3)))
    with pytest.raises(InputError, match=r"\(1, 7, 6, 3\)"):
        _ = found.outputs


# Models in models


def test_a_shared_layer_and_a_shared_model():
    import keras

    conv = keras.layers.Conv2D(3, 1, activation="relu", name="conv")
    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.BatchNormalization(name="norm"), conv], name="inner")
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, conv(inner(inner(conv(inputs)))))
    found = agree(disturbed(model))
    assert [op.kind for op in found.graph.ops].count("conv") == 4
    names = [op.name for op in found.graph.ops]
    assert len(names) == len(set(names))


def test_names_that_collide():
    """`conv/linear`: a convolution `conv` in front of its activation, and a layer `linear` of a model `conv`."""
    import keras

    kl = keras.layers

    def nested(name, layer):
        inputs = keras.Input((6, 6, 3))
        return keras.Model(inputs, kl.Conv2D(3, 1, activation="relu", name=layer)(inputs), name=name)

    inputs = keras.Input((6, 6, 3), name="linear")
    x = nested("other", "conv")(nested("conv", "linear")(nested("another", "conv")(inputs)))
    x = kl.Activation("swish", name="sigmoid")(x)
    x = kl.Add(name="1")([x, kl.Conv2D(3, 1, activation="relu", name="relu")(x), inputs])
    found = agree(disturbed(keras.Model(inputs, x)))
    assert len({op.name for op in found.graph.ops}) == len(found.graph.ops)
    assert len(found.graph.shapes) == len(found.graph.ops) + 1


def test_sequential_in_sequential_in_functional():
    import keras

    kl = keras.layers
    third = keras.Sequential([kl.ZeroPadding2D(((0, 1), (1, 0))), kl.Conv2D(4, 3, 2)])
    second = keras.Sequential([kl.Rescaling(1 / 255.0), third, kl.GlobalMaxPooling2D()])
    agree(model_of(second, kl.Dense(3)))


def test_a_model_with_an_open_size():
    import keras

    model = model_of(
        keras.layers.Conv2D(4, 3, padding="same"), keras.layers.GlobalAveragePooling2D(), size=(None, None, 3)
    )
    with pytest.raises(InputError, match="--size"):
        graph_from_keras(model)
    x = RNG.uniform(0, 1, (2, 7, 10, 3)).astype(np.float32)
    found = agree(model, x, size=(7, 10))
    assert found.graph.shapes[found.graph.input] == (2, 7, 10, 3)


def test_a_size_that_contradicts_the_model():
    import keras

    model = model_of(keras.layers.Flatten())
    assert graph_from_keras(model, size=(9, 8)).outputs == 9 * 8 * 3
    with pytest.raises(UsageError, match="10x8"):
        graph_from_keras(model, size=(10, 8))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(policy):
    """The graph is that of the same weights in float32, not of Keras' rounding."""
    import keras

    def make(dtype):
        kl = keras.layers
        layers = [kl.Conv2D(4, 3, dtype=dtype), kl.BatchNormalization(dtype=dtype), kl.Flatten(dtype=dtype)]
        return model_of(*layers, kl.Dense(3, dtype=dtype))

    half, full = make(policy), make("float32")
    full.set_weights([w.astype(np.float32) for w in half.get_weights()])
    x = RNG.uniform(-1, 1, (2, 9, 8, 3)).astype(np.float32)
    graph = graph_from_keras(half, batch=2).graph
    np.testing.assert_allclose(run_graph(graph, x)[graph.output], full(x), atol=1e-5)
    assert all(op.kernel.dtype == np.float32 for op in graph.ops if op.kind in WEIGHTED)


# Preprocessing


def preprocess_of(*layers, given=None, dtype="float32"):
    import keras

    return input_preprocess(graph_from_keras(model_of(*layers, keras.layers.Conv2D(2, 3), dtype=dtype)), given)


def test_preprocessing_inside_the_model():
    import keras

    kl = keras.layers
    assert preprocess_of(kl.Rescaling(1 / 127.5, -1)).mean == (127.5,) * 3
    assert preprocess_of(kl.Rescaling(1 / 255)).std == (255.0,) * 3
    chained = preprocess_of(kl.Rescaling(1 / 255), kl.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.09, 0.16]))
    np.testing.assert_allclose(chained.mean, (102, 127.5, 153), rtol=1e-6)
    np.testing.assert_allclose(chained.std, (51, 76.5, 102), rtol=1e-6)
    assert preprocess_of(lambda x: x / 255.0 - 0.5).mean == (127.5,) * 3
    assert preprocess_of(kl.RandomFlip(), kl.Rescaling(1 / 255)).std == (255.0,) * 3
    caffe = preprocess_of(kl.Rescaling(1.0, [-103.939, -116.779, -123.68]))
    assert caffe.mean == (103.939, 116.779, 123.68)


def test_given_preprocessing_comes_before_that_of_the_model():
    """Pixels to [0, 1] outside, then to [-1, 1] inside."""
    import keras

    both = preprocess_of(keras.layers.Rescaling(2.0, -1.0), given=Preprocess.parse("unit"))
    assert (both.mean, both.std) == ((127.5,) * 3, (127.5,) * 3)


def no_rescaling(kl):
    """Layers at the input, and the factor that the error names, if any."""
    return {
        "nothing": ([], None),
        "BatchNorm": ([kl.BatchNormalization()], None),
        "of values in [0, 1]": ([kl.Rescaling(2.0, -1.0)], "by 2"),
        "statistics of values in [0, 1]": ([kl.Normalization(mean=[0.5] * 3, variance=[0.04] * 3)], "by 5"),
        "a Normalization without statistics": ([kl.Normalization()], None),
    }


@pytest.mark.parametrize("what", no_rescaling(layer_classes()))
def test_preprocessing_is_never_guessed(what):
    import keras

    layers, factor = no_rescaling(keras.layers)[what]
    with pytest.raises(UsageError, match=factor) as caught:
        preprocess_of(*layers)
    assert "--preprocess raw|unit|tf|torch|caffe|MEAN/STD" in str(caught.value)


def test_an_integer_input_is_pixels():
    import keras

    said = preprocess_of(keras.layers.Rescaling(1.0), dtype="uint8")
    assert (said.mean, said.std) == ((0.0,) * 3, (1.0,) * 3)


def test_a_rescaling_behind_a_padding_says_that_the_input_is_pixels():
    import keras

    said = preprocess_of(keras.layers.ZeroPadding2D(1), keras.layers.Rescaling(1 / 255))
    assert (said.mean, said.std) == ((0.0,) * 3, (1.0,) * 3)


def test_a_normalization_that_something_else_reads_stays():
    import keras

    kl = keras.layers
    inputs = keras.Input((6, 6, 3))
    outputs = kl.Add()([kl.Rescaling(1 / 255)(inputs), kl.Conv2D(3, 1)(inputs)])
    found = agree(disturbed(keras.Model(inputs, outputs)))
    assert found.input_affine is None


def test_grey_pictures():
    import keras

    model = model_of(keras.layers.Conv2D(2, 3), size=(6, 6, 1))
    assert input_preprocess(graph_from_keras(model), Preprocess.parse("tf")).mean == (127.5,)
    with pytest.raises(UsageError, match="mean"):
        input_preprocess(graph_from_keras(model), Preprocess.parse("torch"))
    with pytest.raises(InputError, match="5 channels"):
        input_preprocess(graph_from_keras(model_of(keras.layers.Conv2D(2, 3), size=(6, 6, 5))), Preprocess.parse("tf"))
