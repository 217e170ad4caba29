"""HDF5 files of Keras 2 and 3: opened with one kind of error, told apart by what is in them.

A file's name says little: Keras 2 wrote whole models and bare weights as `.h5`, and both generations
write `.weights.h5`, in different layouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mbn_deploy.errors import InputError, MissingExtraError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What a file holds: a model with its configuration, weights by layer name (Keras 2 and `.h5` of Keras 3),
# weights by class and position (`.weights.h5` of Keras 3 and late Keras 2), or something that is not Keras'.
Content = Literal["model", "named weights", "weights", "other"]

# A dataset may unpack to this many times its stored size, above a floor (Keras does not compress weights).
_EXPANSION, _FLOOR = 20, 64 << 20


@contextmanager
def opened(source: Path | BinaryIO, where: str) -> Iterator[Any]:
    """The `h5py.File` of `source`, read-only; what goes wrong while it is read is an `InputError` naming `where`."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "export", "to read Keras files") from None
    try:
        with h5py.File(source, "r") as file:
            _no_links(file, where)
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where}: the HDF5 file is damaged or cut short: {error}") from error


def _no_links(file: Any, where: str) -> None:
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
                if place in seen:  # inside of itself, or often enough to take forever
                    raise InputError(f"{where}: {group.name}/{name} has another name in it already; Keras writes none")
                seen.add(place)
                pending.append(child)
            else:
                _honest(child, where)


def _honest(dataset: Any, where: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where}: {dataset.name} has its values in another file; Keras writes no such thing")
    declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > _FLOOR + _EXPANSION * stored:
        raise InputError(
            f"{where}: {dataset.name} unpacks from {stored} to {declared} bytes; Keras writes no such thing"
        )


def content(file: Any) -> Content:
    """What an open file holds."""
    if "model_config" in file.attrs:
        return "model"
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return "named weights"
    if "model_weights" in file:
        return "named weights"
    return "weights" if "layers" in file or "_layer_checkpoint_dependencies" in file else "other"


def text(value: Any) -> str:
    """An attribute as text; Keras wrote bytes and strings."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def names(group: Any, attribute: str) -> list[str]:
    """A list of names in an attribute, which Keras splits into `name0`, `name1`, ... when it is long."""
    if attribute in group.attrs:
        return [text(name) for name in group.attrs[attribute]]
    found: list[str] = []
    while f"{attribute}{len(found)}" in group.attrs:
        found.append(f"{attribute}{len(found)}")
    if not found:
        raise KeyError(f"no list {attribute!r} in {group.name}")
    return [text(name) for part in found for name in group.attrs[part]]
