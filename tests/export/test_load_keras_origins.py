"""Model files from other systems, settings and places: what is the same network loads, what is no model is named."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras_files import config_of, saved, with_config

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.load import load_keras
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.labels import parse_labels
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.verify.evaluate import keras_predictor

DATA = Path(__file__).resolve().parents[1] / "data"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5242880\n"


def nested():
    """A network with a network inside, and a layer whose weights lie deeper."""
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(3, 3), layers.BatchNormalization()], name="inner")
    entry = keras.Input((10, 10, 3))
    x = inner(layers.Conv2D(4, 3, name="outer")(entry))
    return keras.Model(entry, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def as_on_windows(source, target):
    """Write `source` again with its weights' groups as Keras 2.12 to 2.15 names them on Windows."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, joined_groups(data) if name.endswith(".h5") else data)


def joined_groups(data):
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as old, h5py.File(buffer, "w") as new:

        def copy(path, item):
            if isinstance(item, h5py.Dataset):
                group, _, variable = path.rpartition("/vars/")
                new[f"{group.replace('/', chr(92))}/vars/{variable}"] = item[()]

        old.visititems(copy)
        assert any("\\" in name for name in new)
    return buffer.getvalue()


def test_a_file_written_on_windows_has_its_weights(tmp_path):
    model = nested()
    model.save(tmp_path / "here.keras")
    as_on_windows(tmp_path / "here.keras", tmp_path / "there.keras")
    x = np.random.default_rng(0).normal(size=(2, 10, 10, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_keras(tmp_path / "there.keras")(x), load_keras(tmp_path / "here.keras")(x))


@pytest.mark.parametrize("name", ["conv 1 (stem)", "größe", "a:b", "_first"])
def test_layer_names_that_tensorflow_takes_for_no_scope(name):
    """`predict` of Keras fails on some of them; calling the model does not."""
    entry = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name=name)(entry)
    model = keras.Model(entry, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    expected = np.asarray(model(pixels.astype(np.float32)))
    np.testing.assert_allclose(keras_predictor(model, Preprocess())(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".tflite", ".onnx", ".txt"])
def test_a_git_lfs_pointer_is_called_one(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(POINTER)
    read = {
        ".tflite": Classifier.open,
        ".onnx": Classifier.open,
        ".txt": lambda path: parse_labels(read_file(path), str(path)),
    }.get(suffix, load_keras)
    with pytest.raises(InputError, match=r"Git LFS.* 5242880 bytes.*git lfs pull") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "thing"),
    [
        (b"\n<!DOCTYPE html>\n<html>", "web page"),
        (b"import keras\nmodel = keras.Sequential()\n", "text"),
        (b"\x80\x04\x95pickled", "pickle"),
        (b"", "empty"),
    ],
)
def test_what_is_no_model_is_called_what_it_is(tmp_path, content, thing):
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(InputError, match=rf"model\.keras.*{thing}"):
        load_keras(tmp_path / "model.keras")


SETTINGS = {
    "a backend": {"KERAS_BACKEND": "jax"},
    "keras.json": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_users_settings_of_keras_change_nothing(tmp_path, setting):
    """A variable or keras.json that choose JAX or channels first are for training."""
    (tmp_path / "keras.json").write_text(
        json.dumps({"backend": "torch", "image_data_format": "channels_first", "floatx": "float16"})
    )
    program = (
        "import os, sys\nfrom mbn_deploy import build, export_model\n"
        "model = build('mobilenet_v1', alpha=0.25, size=32, classes=3)\n"
        "import keras\nassert model.dtype == 'float32'\nassert keras.config.backend() == 'tensorflow'\n"
        "export_model(model, sys.argv[1], formats='tflite', precisions='float32')\n"
        f"assert os.environ.get('KERAS_BACKEND') == {SETTINGS[setting].get('KERAS_BACKEND')!r}\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "dist")], capture_output=True, text=True, check=False,
        env=environment | {"KERAS_HOME": str(tmp_path)} | SETTINGS[setting],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dist" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_process_that_runs_keras_on_another_backend_is_told_so():
    program = (
        "import keras\nkeras.config.set_image_data_format('channels_first')\n"
        "from mbn_deploy import build\nfrom mbn_deploy.errors import UsageError\n"
        "try:\n    build('mobilenet_v1', alpha=0.25, size=32)\nexcept UsageError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "channels_first" in done.stdout


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_sequential_models_in_a_sequential_model(tmp_path, suffix):
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")])
    entry = keras.Sequential([keras.Input((10, 10, 3)), layers.RandomFlip(), layers.Rescaling(1 / 255)])
    model = keras.Sequential([entry, keras.Sequential([layers.Conv2D(4, 3)]), head])
    model.build((None, 10, 10, 3))
    loaded = load_keras(saved(model, tmp_path / f"m{suffix}"))
    picture = np.random.default_rng(0).uniform(0, 255, (1, 10, 10, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(picture, training=False), model(picture, training=False))


def keras2_file(path, class_name, layer, **config):
    """Write the file of Keras 2 with the layer of a class in another class."""
    path.write_bytes((DATA / "keras2.h5").read_bytes())
    changed = config_of(path)
    for one in changed["config"]["layers"]:
        inner = one["config"].get("layers", []) if one["class_name"] == "Sequential" else [one]
        for found in inner:
            if found["class_name"] == layer:
                found.update(class_name=class_name, config={"name": found["config"]["name"], **config})
    return with_config(path, changed)


@pytest.mark.parametrize("name", ["RandomHeight", "RandomWidth"])
def test_augmentation_that_only_keras_2_has_does_nothing_when_it_predicts(tmp_path, name):
    model = load_keras(keras2_file(tmp_path / "m.h5", name, "RandomFlip", factor=0.2, interpolation="bilinear"))
    plain = load_keras(DATA / "keras2.h5")
    picture = np.random.default_rng(0).uniform(0, 255, (1, *plain.input.shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(model(picture, training=False), plain(picture, training=False))


@pytest.mark.parametrize(
    ("class_name", "thing"),
    [("KerasLayer", "TensorFlow Hub"), ("QuantizeWrapperV2", "quantization-aware"), ("PruneLowMagnitude", "pruning")],
)
def test_layers_of_other_packages_are_called_what_they_are(tmp_path, class_name, thing):
    with pytest.raises(InputError, match=thing):
        load_keras(keras2_file(tmp_path / "m.h5", class_name, "Dense"))


def test_a_sequential_model_that_was_saved_without_an_input_says_what_to_do(tmp_path):
    model = keras.Sequential([layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model.build((None, 10, 10, 3))
    path = saved(model, tmp_path / "m.h5")
    config = config_of(path)
    config["config"]["layers"] = [one for one in config["config"]["layers"] if one["class_name"] != "InputLayer"]
    config["config"].pop("build_input_shape", None)
    with pytest.raises(InputError, match=r"m\.h5.*model\.build"):
        load_keras(with_config(path, config))
