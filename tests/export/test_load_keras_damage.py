"""Users' model files that are damaged, of another kind, or made to do harm."""

import io
import pickle
import re
import zipfile

import h5py
import numpy as np
import pytest
from keras_files import RNG, classifier, config_of, saved, with_config, with_members

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.load import load_keras


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"hello world, no model", "'hello world"),
        (pickle.dumps({"weights": [1, 2]}), "pickle"),
        (b"\x1c\0\0\0TFL3" + bytes(50), "TFLite"),
    ],
)
def test_files_of_another_kind(data, kind, tmp_path):
    (tmp_path / "m.keras").write_bytes(data)
    with pytest.raises(InputError, match=kind) as caught:
        load_keras(tmp_path / "m.keras")
    assert "m.keras" in str(caught.value)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        load_keras(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match="SavedModel"):
        load_keras(tmp_path)
    with pytest.raises(InputError, match=r"none\.keras"):
        load_keras(tmp_path / "none.keras")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files(suffix, part, tmp_path):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=path.name):
        load_keras(path)


def test_flipped_bytes_are_an_input_error_or_harmless(tmp_path):
    """Whatever the damage: no other exception comes out."""
    original = {s: saved(classifier(), tmp_path / f"m.{s}").read_bytes() for s in ("keras", "h5")}
    refused = 0
    for suffix, data in original.items():
        for _ in range(25):
            changed = bytearray(data)
            for at in RNG.integers(0, len(data), 20):
                changed[at] ^= int(RNG.integers(1, 256))
            (tmp_path / f"m.{suffix}").write_bytes(changed)
            try:
                load_keras(tmp_path / f"m.{suffix}")
            except InputError:
                refused += 1
    assert refused > 25


@pytest.mark.parametrize("kind", ["new", "named"])
def test_weights_alone_say_what_to_do(kind, tmp_path):
    path = tmp_path / "m.weights.h5"
    model = classifier()
    model.save_weights(path)
    if kind == "named":
        with h5py.File(saved(model, tmp_path / "m.h5")) as whole, h5py.File(path, "w") as file:
            for name, value in whole["model_weights"].attrs.items():
                file.attrs[name] = value
    with pytest.raises(InputError, match="--weights"):
        load_keras(path)


def test_other_hdf5_files(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(InputError, match="model_config"):
        load_keras(tmp_path / "m.h5")


@pytest.mark.parametrize("config", ["", "[", "null", "[]", "3", '{"class_name": "Functional"}', "[" * 100_000])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_configurations_that_are_none(config, suffix, tmp_path):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    with pytest.raises(InputError, match=path.name):
        load_keras(with_config(path, config))


def test_models_nested_without_end(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    for _ in range(50):
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [config]}}
    with pytest.raises(InputError, match="32"):
        load_keras(with_config(path, config))


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "model.weights.h5"])
def test_archives_without_a_member(member, tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with pytest.raises(InputError, match=member):
        load_keras(with_members(path, {member: None}))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\b"])
def test_members_outside_the_archive(name, tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with pytest.raises(InputError, match=re.escape(name.replace("\\", "\\\\"))):
        load_keras(with_members(path, {name: b"x"}))
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(InputError, match=r"config\.json"):
        load_keras(path)


def test_a_zip_bomb(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with_members(path, {"model.weights.h5": bytes(100 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match=path.name):
        load_keras(path)


def test_a_configuration_without_end(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with_members(path, {"config.json": b" " * (65 << 20)})
    with pytest.raises(InputError, match=r"config\.json .*68157440"):
        load_keras(path)


def test_weights_of_other_shapes(tmp_path):
    path = saved(classifier(), tmp_path / "m.h5")
    config = config_of(path)
    config["config"]["layers"][-1]["config"]["units"] = 7
    with pytest.raises(InputError, match=r"Dense 'dense.*\(\?, 7\).*\(4, 3\)"):
        load_keras(with_config(path, config))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_missing_weights(suffix, tmp_path):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    if suffix == "h5":
        with h5py.File(path, "r+") as file:
            (name,) = [name for name in file["model_weights"].attrs["layer_names"] if name.startswith("conv2d")]
            file[f"model_weights/{name}"].attrs["weight_names"] = []
    else:
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            del file["layers/conv2d"]
        with_members(path, {"model.weights.h5": weights.getvalue()})
    with pytest.raises(InputError, match="conv2d"):
        load_keras(path)


def test_links_in_the_weights(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InputError, match="/layers"):
        load_keras(with_members(path, {"model.weights.h5": weights.getvalue()}))
