"""HDF5 weights that are no plain numbers: refused with the names of the file and the dataset, wherever they stand."""

import io
import zipfile

import h5py
import numpy as np
import pytest
from keras_files import classifier, saved, with_members

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.load import load_keras
from mbn_deploy.models.api import build
from mbn_deploy.models.weights import load_weights

RECORD = np.dtype([("real", np.float32), ("other", np.float32)])
TYPES = {
    "complex": np.dtype(np.complex64),
    "compound": RECORD,
    "enum": h5py.enum_dtype({"LOW": 0, "HIGH": 1}, np.int8),
    "truth": np.dtype(bool),
    "array": np.dtype((np.float32, (2,))),
    "text": h5py.string_dtype(),
    "list": h5py.vlen_dtype(np.float32),
    "reference": h5py.ref_dtype,
}


def first_dataset(file, under):
    names = []
    file[under].visititems(lambda _, item: names.append(item.name) if isinstance(item, h5py.Dataset) else None)
    return names[0]


def with_type(file, under, kind):
    """Replace the first dataset by one of another type and the same shape; return its name."""
    name = first_dataset(file, under)
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape=shape, dtype=TYPES[kind])
    return name


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.mark.parametrize("kind", TYPES)
def test_in_a_keras_archive(model, kind, tmp_path):
    path = saved(model, tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r+") as file:
        name = with_type(file, "layers/conv2d", kind)
    with pytest.raises(InputError, match=rf"m\.keras: model\.weights\.h5: {name}"):
        load_keras(with_members(path, {"model.weights.h5": weights.getvalue()}))


@pytest.mark.parametrize("kind", TYPES)
def test_in_a_model_of_keras_2(model, kind, tmp_path):
    path = saved(model, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        name = with_type(file, "model_weights", kind)
    with pytest.raises(InputError, match=rf"m\.h5: {name}"):
        load_keras(path)


@pytest.mark.parametrize("kind", TYPES)
def test_in_weights_of_a_named_network(kind, tmp_path):
    network = build("mobilenet_v1", alpha=0.25, size=32, classes=3)
    network.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "r+") as file:
        name = with_type(file, "layers", kind)
    with pytest.raises(InputError, match=rf"m\.weights\.h5: {name}"):
        load_weights(network, tmp_path / "m.weights.h5")


def test_numbers_of_half_precision_are_read(tmp_path):
    """HDF5 has no bfloat16: Keras writes it as opaque bytes."""
    import keras

    layers = keras.layers
    for dtype in ("float16", "bfloat16"):
        small = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(2, 3, dtype=dtype), layers.Flatten()])
        read = load_keras(saved(small, tmp_path / "m.keras"))
        for mine, theirs in zip(small.get_weights(), read.get_weights(), strict=True):
            assert np.array_equal(np.asarray(mine, np.float32), np.asarray(theirs, np.float32))
