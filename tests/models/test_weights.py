"""Networks by name, and weights files into them: all layouts, what does not fit, what is published."""

import functools
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.models.api import build
from mbn_deploy.models.imagenet import WeightsFile, cache_path, fetch_weights, published_file
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import NETWORKS, network
from mbn_deploy.models.weights import load_weights

SHARED = Path(__file__).parents[3] / "shared" / "models"
APPLICATIONS = {
    "mobilenet_v1": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
}
ALPHA, SIZE, CLASSES = 0.35, 48, 6


@functools.cache  # nothing here changes the model that comes out
def reference(name, **options):
    """The network of keras.applications with weights away from their initial values."""
    import keras

    mini = {"minimalistic": True} if name.endswith("minimalistic") else {}
    make = getattr(keras.applications, APPLICATIONS[name.removesuffix("_minimalistic")])
    settings = {"alpha": ALPHA, "classes": CLASSES, "input_shape": (SIZE, SIZE, 3)} | mini | options
    model = make(weights=None, **settings)
    rng = np.random.default_rng(1)
    model.set_weights(
        [w * rng.uniform(0.5, 1.5, w.shape) + rng.uniform(0.01, 0.1, w.shape) for w in model.get_weights()]
    )
    return model


def ours(name, **options):
    return build(name, **({"alpha": ALPHA, "size": SIZE, "classes": CLASSES} | options))


def same_weights(model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def save_h5(model, path):
    """As Keras 2 wrote weights: by layer, in order (the `model_weights` of a whole `.h5` file)."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_keras_applications_load(name, tmp_path):
    model, loaded = reference(name), ours(name)
    model.save_weights(tmp_path / "a.weights.h5")
    save_h5(model, tmp_path / "a.h5")
    model.save(tmp_path / "a.keras")
    for layout in ("a.weights.h5", "a.h5", "a.keras"):
        loaded.set_weights([0 * w for w in loaded.get_weights()])
        load_weights(loaded, tmp_path / layout)
        assert same_weights(loaded, model), layout


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_without_top(pooling, tmp_path):
    model = reference("mobilenet_v3_small", include_top=False, pooling=pooling)
    model.save_weights(tmp_path / "a.weights.h5")
    loaded = ours("mobilenet_v3_small", include_top=False, pooling=pooling, weights=tmp_path / "a.weights.h5")
    x = np.random.default_rng(0).uniform(0, 255, (1, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)


def test_the_name_says_nothing_about_the_layout(tmp_path):
    """Keras 2 wrote its own layout as `.weights.h5`, too; Keras itself goes by the name and fails."""
    model = reference("mobilenet_v1")
    save_h5(model, tmp_path / "a.weights.h5")
    assert same_weights(ours("mobilenet_v1", weights=tmp_path / "a.weights.h5"), model)


@pytest.mark.parametrize("layout", ["a.weights.h5", "a.h5"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.75}, r"'Conv1' .*\(3, 3, 3, 24\).*\(3, 3, 3, 16\).* alpha"),
        ({"classes": 9}, r"'predictions' .*\(1280, 9\).* 6 classes"),
        ({"include_top": False}, "top"),
    ],
)
def test_what_does_not_fit_is_named(layout, options, message, tmp_path):
    path, model = tmp_path / layout, reference("mobilenet_v2")
    model.save_weights(path) if layout == "a.weights.h5" else save_h5(model, path)
    with pytest.raises(InputError, match=message) as caught:
        ours("mobilenet_v2", **options, weights=path)
    assert str(path) in str(caught.value)


def test_another_network_is_refused_and_the_model_unchanged(tmp_path):
    reference("mobilenet_v3_large").save_weights(tmp_path / "a.weights.h5")
    model = ours("mobilenet_v3_small")
    before = model.get_weights()
    with pytest.raises(InputError, match="batch_normalization_3"):
        load_weights(model, tmp_path / "a.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_swapped_variables_are_seen(tmp_path):
    """gamma and beta have one shape: only their names tell them apart."""
    save_h5(reference("mobilenet_v1"), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        attributes = file["conv1_bn"].attrs
        names = list(attributes["weight_names"])
        attributes["weight_names"] = [names[1], names[0], *names[2:]]
    with pytest.raises(InputError, match=r"'conv1_bn' .*gamma .*beta"):
        ours("mobilenet_v1", weights=tmp_path / "a.h5")


def test_integer_weights_are_refused(tmp_path):
    reference("mobilenet_v1").save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        group = file["layers/conv2d/vars"]
        values = np.zeros(group["0"].shape, np.int8)
        del group["0"]
        group["0"] = values
    with pytest.raises(InputError, match=r"'conv1' .*int8"):
        ours("mobilenet_v1", weights=tmp_path / "a.weights.h5")


def test_a_nested_model_is_refused(tmp_path):
    import keras

    inner = reference("mobilenet_v1", include_top=False)
    keras.Sequential([inner, keras.layers.Flatten(), keras.layers.Dense(2)]).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="functional"):
        ours("mobilenet_v1", weights=tmp_path / "a.weights.h5")


def truncated(data):
    return data[: len(data) // 2]


def without_weights(_):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["numbers"] = np.zeros(3)
    return buffer.getvalue()


def archive_without_weights(_):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (truncated, r"a\.weights\.h5"),
        (lambda _: b"", "HDF5"),
        (lambda _: b"\x1c\0\0\0TFL3" + bytes(50), "HDF5"),
        (without_weights, "HDF5"),
        (archive_without_weights, r"model\.weights\.h5"),
    ],
)
def test_damaged_files(damage, named, tmp_path):
    path = tmp_path / "a.weights.h5"
    reference("mobilenet_v1").save_weights(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=named) as caught:
        ours("mobilenet_v1", weights=path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.h5"):
        ours("mobilenet_v1", weights=tmp_path / "nothing.h5")


def test_links_to_other_files_are_refused(tmp_path):
    save_h5(reference("mobilenet_v1"), tmp_path / "secret.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("secret.h5", "/")
    with pytest.raises(InputError, match="/model_weights"):
        ours("mobilenet_v1", weights=tmp_path / "a.h5")


@pytest.mark.parametrize("target", ["/", "/layers"])
def test_groups_in_groups_without_an_end_are_refused(tmp_path, target):
    reference("mobilenet_v1").save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "a") as file:
        file["layers/loop"] = file[target]
    with pytest.raises(InputError, match="/layers/loop"):
        ours("mobilenet_v1", weights=tmp_path / "a.weights.h5")


def test_a_dataset_that_unpacks_to_gigabytes_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file.create_dataset("layers/conv2d/vars/0", (1 << 20, 1 << 12), np.float32, chunks=True, compression="gzip")
    assert (tmp_path / "a.weights.h5").stat().st_size < 100_000
    with pytest.raises(InputError, match="17179869184"):
        ours("mobilenet_v1", weights=tmp_path / "a.weights.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean"}, "pooling"),
        ({"classifier_activation": "relu"}, "classifier activation"),
        ({"alpha": float("inf")}, "alpha"),
        ({"size": 8}, "size"),
    ],
)
def test_values_that_make_no_sense(options, message):
    with pytest.raises(UsageError, match=message):
        ours("mobilenet_v2", **options)


def test_unknown_name():
    with pytest.raises(UnknownNameError, match="mobilenet_v3_small"):
        build("mobilenet_v3_smal")


# The published files


def keras_asks_for(monkeypatch, name, **options):
    """(file name, URL, MD5) of the file that keras.applications itself would load."""
    from keras.src.applications import mobilenet, mobilenet_v2, mobilenet_v3

    asked = []

    def get_file(file, url, *, cache_subdir, file_hash=None):
        asked.append((file, url, file_hash))
        raise StopIteration

    for module in (mobilenet, mobilenet_v2, mobilenet_v3):
        monkeypatch.setattr(module.file_utils, "get_file", get_file)
    import keras

    mini = {"minimalistic": True} if name.endswith("minimalistic") else {}
    make = getattr(keras.applications, APPLICATIONS[name.removesuffix("_minimalistic")])
    with pytest.raises(StopIteration):
        make(weights="imagenet", **options, **mini)
    return asked[0]


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize(
    ("name", "alpha", "size"),
    [
        ("mobilenet_v1", 0.25, 128),
        ("mobilenet_v1", 1.0, 192),
        ("mobilenet_v2", 0.35, 96),
        ("mobilenet_v2", 1.4, 224),
        ("mobilenet_v3_small", 0.75, 224),
        ("mobilenet_v3_small", 1.0, 224),
        ("mobilenet_v3_large", 0.75, 224),
        ("mobilenet_v3_large", 1.0, 224),
        ("mobilenet_v3_small_minimalistic", 1.0, 224),
        ("mobilenet_v3_large_minimalistic", 1.0, 224),
    ],
)
def test_the_table_is_that_of_keras(name, alpha, size, top, monkeypatch):
    asked = keras_asks_for(monkeypatch, name, alpha=alpha, include_top=top, input_shape=(size, size, 3))
    file = published_file(Spec(network(name), alpha, size, include_top=top))
    assert (file.filename, file.url, file.md5) == asked


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v1", {"alpha": 0.3}, "alpha 0.3.* 0.25, 0.5, 0.75, 1"),
        ("mobilenet_v2", {"size": 100}, "size 100.* 96, 128, 160, 192, 224"),
        ("mobilenet_v3_small", {"size": 160}, "160.* 224"),
        ("mobilenet_v3_large_minimalistic", {"alpha": 0.75}, "0.75.* 1"),
        ("mobilenet_v2", {"classes": 10}, "1000 .*10"),
    ],
)
def test_what_is_not_published(name, options, message):
    with pytest.raises(UsageError, match=message):
        build(name, **options, weights="imagenet")


V1_FILE = published_file(Spec(network("mobilenet_v1"), 0.25, 128))
OFFLINE = """
import sys
from mbn_deploy import build
from mbn_deploy.errors import InputError
try:
    model = build("mobilenet_v1", alpha=0.25, size=128, weights="imagenet")
except InputError as error:
    print(error)
else:
    print("loaded", float(model.get_weights()[0].sum()))
"""


def offline(home):
    """`OFFLINE` in a process without a network; Keras' cache is `home`."""
    nowhere = "http://127.0.0.1:9"  # the discard port: refused at once
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere)
    environment = {**os.environ, **proxies, "no_proxy": "", "KERAS_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=True, timeout=100
    )
    return done.stdout.strip()


def test_without_a_network_the_error_says_what_is_wanted_and_where_to_put_it(tmp_path):
    home = tmp_path / "not yet there"
    printed = offline(home)
    path = home / "models" / "mobilenet_2_5_128_tf.h5"
    assert V1_FILE.url in printed
    assert str(path) in printed
    assert not path.exists()
    # A file that is put there is found; Keras states no sum for V1, so any weights that fit will do here.
    model = reference("mobilenet_v1", alpha=0.25, input_shape=(128, 128, 3), classes=1000)
    save_h5(model, path)
    assert offline(home) == f"loaded {float(model.get_weights()[0].sum())}"


def test_a_damaged_file_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = cache_path(V1_FILE)
    path.parent.mkdir()
    path.write_bytes(b"half a download")
    with pytest.raises(InputError, match=r"mobilenet_2_5_128_tf\.h5"):
        build("mobilenet_v1", alpha=0.25, size=128, weights="imagenet")


def test_a_file_with_another_sum_is_refused_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    file = published_file(Spec(network("mobilenet_v3_small")))
    cache_path(file).parent.mkdir()
    cache_path(file).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"6c7ba9c5a141421e1c03cb9807c97c74.* 8768d4c2"):
        fetch_weights(file)
    assert cache_path(file).read_bytes() == b"something else"


def test_a_file_with_the_right_sum_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    file = WeightsFile("https://example.org/a.h5", "6c7ba9c5a141421e1c03cb9807c97c74")
    cache_path(file).parent.mkdir()
    cache_path(file).write_bytes(b"something else")
    assert fetch_weights(file) == tmp_path / "models" / "a.h5"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
@pytest.mark.parametrize(
    ("file", "name", "alpha"),
    [
        ("mobilenet_v1_0.25_224.h5", "mobilenet_v1", 0.25),
        ("mobilenet_v1_1.0_224.weights.h5", "mobilenet_v1", 1.0),
        ("mobilenet_v2_1.0_224.weights.h5", "mobilenet_v2", 1.0),
        ("mobilenet_v3_small_1.0_224.weights.h5", "mobilenet_v3_small", 1.0),
        ("mobilenet_v3_large_minimalistic_1.0_224.weights.h5", "mobilenet_v3_large_minimalistic", 1.0),
    ],
)
def test_real_weights(file, name, alpha):
    model = build(name, alpha=alpha, weights=SHARED / "float" / file)
    mini = {"minimalistic": True} if name.endswith("minimalistic") else {}
    import keras

    make = getattr(keras.applications, APPLICATIONS[name.removesuffix("_minimalistic")])
    other = make(alpha=alpha, weights=None, input_shape=(224, 224, 3), **mini)
    other.load_weights(SHARED / "float" / file)
    assert same_weights(model, other)
