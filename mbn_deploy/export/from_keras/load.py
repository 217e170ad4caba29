"""Loading a user's `.keras` or `.h5` file as a Keras model without running code from the file.

The configuration is read, checked and repaired as data (`config`). For an `.h5` the model is then built from it and
the weights are set by name; for a `.keras`, Keras loads a temporary copy that holds exactly what was checked.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.claimed_sizes import Shapes, build_outline, check_claims, check_settings
from mbn_deploy.export.from_keras.config import layer_order, repair_config
from mbn_deploy.export.from_keras.foreign_files import kind_of_archive, kind_of_file, kind_of_folder
from mbn_deploy.export.from_keras.h5_weights import load_named, split_windows_names
from mbn_deploy.models.hdf5 import SIGNATURE, attribute_text, content_kind, open_hdf5, weight_shapes
from mbn_deploy.models.keras_backend import import_keras
from mbn_deploy.models.keras_zip import (
    CONFIG_LIMIT,
    CONFIG_MEMBER,
    METADATA_MEMBER,
    WEIGHTS_MEMBER,
    is_zip,
    read_member,
)
from mbn_deploy.runtime.system.files import lfs_pointer, missing
from mbn_deploy.runtime.system.temporary import scratch

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class _Source:
    """The configuration of a model file, before anything is made of it."""

    path: Path
    kind: Literal["keras", "h5"]
    config: Any
    version: str
    backend: str
    training: Any  # the settings of `compile`, None if the model was not compiled

    @property
    def keras2(self) -> bool:
        return not self.version.startswith("3")


def load_keras(path: str | Path) -> keras.Model:
    """Load the `.keras` or `.h5` file at `path`, written by Keras 3 or Keras 2. The model is not compiled.

    Augmentation and dropout layers become `Identity`: the model predicts as the stored one does, but cannot be
    trained further. An `.h5` does not record which package a class comes from: a custom layer named like one of
    Keras' is taken for that one, as Keras itself does.

    Raises:
        InputError: the file is damaged, or a layer is refused; the message says which and why. Code (Lambda layers,
            custom objects, pickles) is never run, and layers that cannot be exported are refused here already.
        MissingExtraError: Keras is not installed.
    """
    source = _read(Path(path))
    where = str(source.path)
    config, stored = _checked(source)
    outline = _call_keras(lambda keras: build_outline(keras, config), where)
    _check_built(outline, where)
    check_claims(outline, stored, where)
    if source.kind == "h5":
        model = _call_keras(lambda keras: keras.saving.deserialize_keras_object(config, safe_mode=True), where)
        with open_hdf5(source.path, where) as file:
            load_named(model, file["model_weights"], where)
        return model
    with scratch("keras") as folder:
        copy = folder / "model.keras"
        _copy_archive(source.path, copy, config)
        model = _call_keras(lambda keras: keras.models.load_model(copy, compile=False, safe_mode=True), where)
    _check_order(model, config, where)
    return model


def _checked(source: _Source) -> tuple[dict[str, Any], Shapes]:
    """Return the repaired configuration and the shapes of the weights, after all checks that need no Keras."""
    where = str(source.path)
    if source.version.startswith("1") or (source.keras2 and source.backend not in ("", "tensorflow")):
        raise InputError(
            f"{where} was written by Keras {source.version} with {source.backend or 'an unknown backend'}; "
            "Keras 2 with TensorFlow and Keras 3 are read. Save the model again with one of them"
        )
    config = repair_config(source.config, keras2=source.keras2, where=where)
    if source.kind == "h5":
        with open_hdf5(source.path, where) as file:
            stored = weight_shapes(file)
    else:
        weights = io.BytesIO(read_member(source.path, WEIGHTS_MEMBER))
        with open_hdf5(weights, f"{where}: {WEIGHTS_MEMBER}") as file:
            stored = weight_shapes(file)
    check_settings(config, stored, where)
    return config, stored


def _check_built(model: Any, where: str) -> None:
    """Raise `InputError` for a Sequential whose file does not say what it takes: Keras makes no weights for it."""
    if not model.built:
        raise InputError(
            f"{where}: its Sequential does not say what it takes, since it was saved without an input; in Keras call "
            "model.build((None, height, width, 3)) with the size of the training, and save it again"
        )


def compiled_losses(path: str | Path) -> Any:
    """Return the losses that the model in a `.keras` or `.h5` file was compiled with, as plain data; None without any.

    Raises:
        InputError: as `load_keras`.
    """
    training = _read(Path(path)).training
    return training.get("loss") if isinstance(training, dict) else None


def check_model_file(path: Path) -> None:
    """Raise `InputError` for a file of which no model can be made, as far as that shows without a framework."""
    _checked(_read(path))


def _read(path: Path) -> _Source:
    if path.is_dir():
        raise InputError(f"{path} is a folder{kind_of_folder(path)}; a .keras or .h5 file is expected")
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if (pointer := lfs_pointer(start)) is not None:
        raise InputError(f"{path} {pointer}")
    if is_zip(start):
        return _read_archive(path)
    if start.startswith(SIGNATURE):
        return _read_hdf5(path)
    raise InputError(f"{path} is no Keras model (.keras or .h5): {kind_of_file(path, start)}")


def _read_archive(path: Path) -> _Source:
    if (kind := kind_of_archive(path)) is not None:
        raise InputError(f"{path} is no Keras model (.keras or .h5): {kind}")
    config = _json(read_member(path, CONFIG_MEMBER, CONFIG_LIMIT), path)
    metadata = _json(read_member(path, METADATA_MEMBER, CONFIG_LIMIT), path)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    training = config.get("compile_config") if isinstance(config, dict) else None
    return _Source(path, "keras", config, str(version or "3"), "", training)


def _read_hdf5(path: Path) -> _Source:
    with open_hdf5(path, str(path)) as file:
        kind = content_kind(file)
        if kind in ("weights", "named weights"):
            raise InputError(
                f"{path} holds only weights, not a model. For one of the MobileNets of this program give its name and "
                "--weights with this file; of your own model save the whole: model.save('model.keras')"
            )
        if kind == "other":
            raise InputError(f"{path} is an HDF5 file, but holds no Keras model (it has no model_config)")
        attributes = file.attrs
        config = _json(attribute_text(attributes["model_config"]), path)
        version = attribute_text(attributes.get("keras_version", "1"))
        backend = attribute_text(attributes.get("backend", ""))
        training = _training(attribute_text(attributes.get("training_config", "")))
        if "model_weights" not in file:
            raise InputError(f"{path} holds a model without weights")
    return _Source(path, "h5", config, version, backend, training)


def _training(text: str) -> Any:
    """Return the settings of `compile`; None where they are missing or cannot be read, since no export needs them."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json(value: str | bytes, path: Path) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its model configuration is not JSON: {error}") from error


def _copy_archive(path: Path, copy: Path, config: dict[str, Any]) -> None:
    """Write an archive of the checked configuration and the weights of the one at `path`, without assets."""
    weights = read_member(path, WEIGHTS_MEMBER)
    (copy.parent / WEIGHTS_MEMBER).write_bytes(weights)
    with open_hdf5(copy.parent / WEIGHTS_MEMBER, f"{path}: {WEIGHTS_MEMBER}", mode="r+") as file:
        split_windows_names(file)
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr(CONFIG_MEMBER, json.dumps(config))
        archive.writestr(METADATA_MEMBER, read_member(path, METADATA_MEMBER, CONFIG_LIMIT))
        archive.write(copy.parent / WEIGHTS_MEMBER, WEIGHTS_MEMBER)


def _call_keras(make: Callable[[Any], Any], where: str) -> Any:
    """Return what `make` makes of the keras package; turn whatever Keras raises about a file into an `InputError`."""
    keras = import_keras("to load Keras models")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about training, which is not done here
            return make(keras)
    except Exception as error:  # Keras has no error class of its own
        raise InputError(f"{where}: Keras cannot build the model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the line of a message of Keras that says what is wrong; a whole configuration may stand before it."""
    text = str(error).strip().rpartition("Exception encountered: ")[2]
    return next(iter(text.splitlines()), type(error).__name__)


def _check_order(model: Any, config: dict[str, Any], where: str) -> None:
    """Refuse a model whose layers Keras has put into another order: their weights would go to other layers."""
    if _order(model) != layer_order(config):
        raise InputError(
            f"{where}: this Keras orders the model's layers differently from the one that wrote the file, so weights "
            "would go to wrong layers; save the model again with Keras 3"
        )


def _order(model: Any) -> list[Any]:
    layers = model._layers if type(model).__name__ == "Sequential" else model.layers  # noqa: SLF001 (with the InputLayer)
    return [(one.name, _order(one)) if hasattr(one, "layers") else one.name for one in layers]
