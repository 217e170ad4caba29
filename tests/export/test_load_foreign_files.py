"""Files and folders that hold no Keras model are called what they are, with what to bring in their place."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.load import check_model_file, load_keras

FILES = {
    "model.pt": (b"\x80\x02pickled", "PyTorch"),
    "model.pth": (b"\x80\x02pickled", "PyTorch"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch", "ONNX"),
    "model.mlmodel": (b"\x08\x04\x12\x20abc\0", "Core ML"),
    "frozen.pb": (b"\x0a\x10\x0a\x01x", "frozen"),
    "saved_model.pb": (b"\x08\x01\x12\xef", "SavedModel"),
    "model.ckpt.index": (b"\0\1\2", "checkpoint"),
    "model.ckpt.data-00000-of-00001": (b"\0\1\2", "checkpoint"),
    "checkpoint": (b'model_checkpoint_path: "m"', "checkpoint"),
    "model.json": (b'{"format": "layers-model", "modelTopology": {}}', r"TensorFlow\.js"),
    "architecture.json": (b'{"module": "keras", "class_name": "Functional"}', "configuration"),
    "model.tar.gz": (b"\x1f\x8b\x08abc", "unpack"),
    "model.py": (b"import keras\n", "text"),
    "model.keras": (b"\x1f\x8b\x08abc", "unpack"),
}
ARCHIVES = {
    "model.pt": (("archive/data.pkl", "archive/version"), "PyTorch"),
    "models.zip": (("models/mine.keras",), "models/mine.keras.*unpack"),
    "letter.keras": (("[Content_Types].xml", "word/document.xml"), "Office"),
    "folder.keras": (("mine/config.json", "mine/metadata.json"), "unpack"),
    "other.keras": (("readme.txt",), r"config\.json"),
}
FOLDERS = {
    "saved": ("saved_model.pb", "SavedModel"),
    "model.mlpackage": ("Manifest.json", "Core ML"),
    "training": ("checkpoint", "checkpoint"),
    "photos": ("a.jpg", "folder"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_called_what_it_is(tmp_path, name):
    content, kind = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*{kind}"):
        check_model_file(tmp_path / name)


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_called_what_it_is(tmp_path, name):
    members, kind = ARCHIVES[name]
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for member in members:
            archive.writestr(member, "{}")
    with pytest.raises(InputError, match=rf"{name}.*{kind}"):
        check_model_file(tmp_path / name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_called_what_it_is(tmp_path, name):
    member, kind = FOLDERS[name]
    (tmp_path / name).mkdir()
    (tmp_path / name / member).write_bytes(b"")
    with pytest.raises(InputError, match=rf"{name}.*{kind}"):
        check_model_file(tmp_path / name)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_sequential_in_a_sequential_has_its_weights(tmp_path, suffix):
    inner = keras.Sequential([layers.Conv2D(4, 3), keras.Sequential([layers.ReLU()]), layers.Conv2D(2, 1)])
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model.save(tmp_path / f"model{suffix}")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_keras(tmp_path / f"model{suffix}")(x), model(x))
