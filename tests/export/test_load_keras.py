"""Users' model files: those of Keras 2 and 3 load, and mean what they meant."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from graph_reference import run_graph
from keras_files import RNG, classifier, config_of, disturbed, pictures, saved, set_in, with_config

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.config_ops import operation_entry
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.load import load_keras
from mbn_deploy.export.from_keras.supported import OPERATIONS

DATA = Path(__file__).parents[1] / "data"
SHARED = Path(__file__).parents[3] / "shared" / "models"


# What loads


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_comes_back_as_it_was(suffix, tmp_path):
    model, x = classifier(), pictures()
    loaded = load_keras(saved(model, tmp_path / f"m.{suffix}"))
    np.testing.assert_allclose(loaded(x), model(x, training=False), atol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_suffix_does_not_matter(suffix, tmp_path):
    model = classifier()
    saved(model, tmp_path / f"m.{suffix}").rename(tmp_path / "model.bin")
    assert load_keras(tmp_path / "model.bin").count_params() == model.count_params()


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_mobilenet_v3_of_keras(suffix, tmp_path):
    """Bare operations: Keras itself cannot read its own .h5 of this model."""
    import keras

    model = disturbed(keras.applications.MobileNetV3Small((32, 32, 3), alpha=0.35, weights=None, classes=4))
    x = pictures(size=32)
    loaded = load_keras(saved(model, tmp_path / f"m.{suffix}"))
    np.testing.assert_allclose(loaded(x), model(x, training=False), atol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_of_keras_2(suffix):
    """scripts/make_keras2_files.py: everything that Keras 3 cannot read, and the output that Keras 2 had."""
    data = np.load(DATA / "keras2.npz")
    assert np.ptp(data["y"]) > 0.1
    model = load_keras(DATA / f"keras2.{suffix}")
    np.testing.assert_allclose(model(data["x"]), data["y"], atol=1e-5)
    found = graph_from_keras(model, batch=len(data["x"]))
    np.testing.assert_allclose(found.input_affine.scale, 1 / 127.5)
    np.testing.assert_allclose(found.input_affine.offset, -1)
    inner = data["x"] * found.input_affine.scale + found.input_affine.offset
    result = run_graph(found.graph, inner)[found.graph.output]
    np.testing.assert_allclose(result, data["y"], atol=1e-5)


def test_partly_frozen_models_keep_their_weights(tmp_path):
    """The order in an .h5 depends on what is frozen; kernels of one shape would be swapped."""
    import keras

    layers = [keras.layers.Conv2D(3, 1, name=f"c{i}") for i in range(3)]
    inner = keras.Sequential([keras.Input((4, 4, 3)), *layers], name="inner")
    inner.layers[0].trainable = False
    model = disturbed(keras.Sequential([keras.Input((4, 4, 3)), inner, keras.layers.Flatten()]))
    x = pictures(size=4)
    loaded = load_keras(saved(model, tmp_path / "m.h5"))
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_an_adapted_normalization(suffix, tmp_path):
    import keras

    layer = keras.layers.Normalization()
    layer.adapt(pictures(8))
    model = keras.Sequential([keras.Input((16, 16, 3)), layer, keras.layers.GlobalAveragePooling2D()])
    loaded = load_keras(saved(model, tmp_path / f"m.{suffix}"))
    x = pictures()
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)


def test_optimizer_and_losses_are_not_needed(tmp_path):
    import keras

    model = classifier()
    model.compile(keras.optimizers.Adam(), "categorical_crossentropy", metrics=["accuracy"])
    config = config_of(saved(model, tmp_path / "m.keras"))
    config["compile_config"]["loss"] = {"module": "my.code", "class_name": "MyLoss", "config": {}}
    loaded = load_keras(with_config(tmp_path / "m.keras", config))
    assert not loaded.compiled


NEEDED_SETTINGS = {
    "Clip": {"x_min": 0, "x_max": 6},
    "Cast": {"dtype": "float32"},
    "Reshape": {"newshape": [-1, 4]},
    "ExpandDims": {"axis": 1},
    "Swapaxes": {"axis1": 1, "axis2": 2},
    "Moveaxis": {"source": 1, "destination": 2},
    "Pad": {"pad_width": [[0, 0], [1, 1]]},
    "Split": {"indices_or_sections": 2},
    "Repeat": {"repeats": 2},
    "Tile": {"repeats": [1, 2]},
    "Resize": {"size": [4, 4]},
}


def test_every_operation_of_the_converter_is_found_by_keras():
    import keras

    for name, operation in OPERATIONS.items():
        made = keras.saving.deserialize_keras_object(operation_entry(name, "a", NEEDED_SETTINGS.get(name, {})))
        assert (type(made).__name__, type(made).__module__) == (name, operation.module)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
@pytest.mark.parametrize(
    ("file", "classes"), [("float/mobilenet_v1_0.25_224.h5", 1000), ("published/mlc_vww_96.h5", 2)]
)
def test_real_files_of_keras_2(file, classes):
    found = graph_from_keras(load_keras(SHARED / file))
    assert (found.outputs, found.end.function, found.input_affine) == (classes, "softmax", None)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
def test_the_repaired_file_is_the_network_with_its_weights():
    from mbn_deploy.models.api import build

    path = SHARED / "float" / "mobilenet_v1_0.25_224.h5"
    x = RNG.uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    expected = build("mobilenet_v1", alpha=0.25, weights=path)(x)
    np.testing.assert_allclose(load_keras(path)(x), expected, atol=1e-6)


# What Keras 2 meant otherwise


def keras2_config(**changes):
    return set_in(config_of(DATA / "keras2.h5"), "Dense", **changes)


@pytest.fixture
def keras2_file(tmp_path):
    (tmp_path / "m.h5").write_bytes((DATA / "keras2.h5").read_bytes())
    return tmp_path / "m.h5"


def test_hard_sigmoid_of_keras_2_is_another_function(keras2_file):
    """It is clip(0.2 x + 0.5, 0, 1) of the linear outputs."""
    config = config_of(keras2_file)
    config["config"]["layers"][-1]["config"]["activation"] = "hard_sigmoid"
    data = np.load(DATA / "keras2.npz")
    found = graph_from_keras(load_keras(with_config(keras2_file, config)), batch=len(data["x"]))
    result = run_graph(found.graph, data["x"] * found.input_affine.scale + found.input_affine.offset)[
        found.graph.output
    ]
    np.testing.assert_allclose(result, np.clip(0.2 * data["y"] + 0.5, 0, 1), atol=1e-5)


def test_groups_of_a_depthwise_convolution_must_mean_nothing(keras2_file):
    config = config_of(keras2_file)
    (bone,) = [layer for layer in config["config"]["layers"] if layer["name"] == "back/bone"]
    (first, *_) = [layer for layer in bone["config"]["layers"] if layer["class_name"] == "DepthwiseConv2D"]
    assert first["config"]["groups"] == 1
    first["config"]["groups"] = 2
    with pytest.raises(InputError, match=r"'block_0/depthwise' .*groups=2"):
        load_keras(with_config(keras2_file, config))


def test_a_function_of_tensorflow_that_is_not_known(keras2_file):
    text = json.dumps(config_of(keras2_file))
    assert '"function": "math.truediv"' in text
    with pytest.raises(InputError, match=r"'tf.math.truediv' .*tf.math.floordiv"):
        load_keras(with_config(keras2_file, text.replace('"math.truediv"', '"math.floordiv"')))


@pytest.mark.parametrize(("version", "backend"), [("1.2.2", "tensorflow"), ("2.2.4", "theano"), ("2.2.4", "cntk")])
def test_older_files_are_refused(version, backend, keras2_file):
    with h5py.File(keras2_file, "r+") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version, backend
    with pytest.raises(InputError, match=f"Keras {version} with {backend}"):
        load_keras(keras2_file)
