"""HDF5 files of Keras 2 and 3: opened with one kind of error, told apart by their contents.

A file's name says little: Keras 2 wrote whole models and bare weights as `.h5`, and both generations write
`.weights.h5`, in different layouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mbn_deploy.errors import InputError, MissingExtraError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A model with its configuration, weights by layer name (Keras 2 and `.h5` of Keras 3), weights by class and position
# (`.weights.h5` of Keras 3 and late Keras 2), or no file of Keras.
ContentKind = Literal["model", "named weights", "weights", "other"]

# A dataset may unpack to this many times its stored size, above a floor (Keras does not compress weights).
_EXPANSION, _FLOOR = 20, 64 << 20


@contextmanager
def open_hdf5(source: Path | BinaryIO, where: str, *, mode: str = "r") -> Iterator[Any]:
    """Open an `h5py.File`, by default read-only; errors while it is open become an `InputError` that names `where`."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "export", "to read Keras files") from None
    try:
        with h5py.File(source, mode) as file:
            _check_contents(file, where)
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where}: the HDF5 file is damaged or cut short: {error}") from error


def _check_contents(file: Any, where: str) -> None:
    """Refuse links, which would let a model file read other files of this machine, and groups without an end."""
    import h5py

    pending = [file]
    seen = {h5py.h5o.get_info(file["/"].id).addr}
    while pending:
        group = pending.pop()
        for name in group:
            if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise InputError(f"{where}: {group.name}/{name} is a link to another place or file; Keras writes none")
            child = group[name]
            if isinstance(child, h5py.Group):
                place = h5py.h5o.get_info(child.id).addr
                if place in seen:  # inside itself, or in so many places that reading would take forever
                    raise InputError(f"{where}: {group.name}/{name} has another name in it already; Keras writes none")
                seen.add(place)
                pending.append(child)
            else:
                _check_size(child, where)


def _check_size(dataset: Any, where: str) -> None:
    """Refuse datasets in other files, and those that unpack to far more than they take in the file."""
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where}: {dataset.name} has its values in another file; Keras writes no such thing")
    declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > _FLOOR + _EXPANSION * stored:
        raise InputError(
            f"{where}: {dataset.name} unpacks from {stored} to {declared} bytes; Keras writes no such thing"
        )


def content_kind(file: Any) -> ContentKind:
    """Tell what an open file holds."""
    if "model_config" in file.attrs:
        return "model"
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return "named weights"
    if "model_weights" in file:
        return "named weights"
    return "weights" if "layers" in file or "_layer_checkpoint_dependencies" in file else "other"


def attribute_text(value: Any) -> str:
    """Return an attribute as text; Keras wrote bytes or strings."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def attribute_names(group: Any, attribute: str) -> list[str]:
    """Return the list of names in an attribute, which Keras splits into `name0`, `name1`, ... when it is long."""
    if attribute in group.attrs:
        return [attribute_text(name) for name in group.attrs[attribute]]
    parts: list[str] = []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    if not parts:
        raise KeyError(f"no list {attribute!r} in {group.name}")
    return [attribute_text(name) for part in parts for name in group.attrs[part]]
