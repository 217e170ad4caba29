"""HDF5 files of Keras 2 and 3: opened with one kind of error, told apart by their contents.

A file's name says little: Keras 2 wrote whole models and bare weights as `.h5`, and both generations write
`.weights.h5`, in different layouts.
"""

from __future__ import annotations

import math
from collections import Counter
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
    """Refuse links, which would let a model file read other files of this machine, and groups without an end.

    Datasets are checked one by one, and all of them together for unpacking to far more than they take in the file.
    """
    import h5py

    pending = [file]
    seen = {h5py.h5o.get_info(file["/"].id).addr}
    declared = stored = 0
    while pending:
        group = pending.pop()
        for name in group:
            if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise InputError(f"{where}: {group.name}/{name} is a link to another place or file; Keras writes none")
            child = group[name]
            place = h5py.h5o.get_info(child.id).addr
            if isinstance(child, h5py.Group):
                if place in seen:  # inside itself, or in so many places that reading would take forever
                    raise InputError(f"{where}: {group.name}/{name} has another name in it already; Keras writes none")
                pending.append(child)
            elif isinstance(child, h5py.Dataset):
                _check_dataset(child, where)
                declared += _unpacked_bytes(child)
                stored += 0 if place in seen else child.id.get_storage_size()
            seen.add(place)
    _check_size(declared, stored, f"{where}: all weights together")


def _check_dataset(dataset: Any, where: str) -> None:
    """Refuse datasets that hold no plain numbers, have them in other files, or unpack to far more than they take."""
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where}: {dataset.name} has its values in another file; Keras writes no such thing")
    if (kind := _unusual_type(dataset.dtype)) is not None:
        raise InputError(f"{where}: {dataset.name} holds {kind}, not plain numbers; Keras writes no such weights")
    _check_size(_unpacked_bytes(dataset), dataset.id.get_storage_size(), f"{where}: {dataset.name}")


def _unpacked_bytes(dataset: Any) -> int:
    return math.prod(dataset.shape or (0,)) * int(dataset.dtype.itemsize)


def _check_size(declared: int, stored: int, what: str) -> None:
    if declared > _FLOOR + _EXPANSION * stored:
        raise InputError(f"{what}: {stored} bytes unpack to {declared}; Keras writes no such thing")


def _unusual_type(dtype: Any) -> str | None:
    """Name the type of a dataset whose values are no plain numbers; None for numbers.

    bfloat16 is opaque to HDF5, which has no such number: its dtype is void, without fields.
    """
    import h5py

    if dtype.kind == "b" or h5py.check_enum_dtype(dtype) is not None:
        return "names with a number each (an HDF5 enum)"
    if dtype.names is not None:
        return f"records of {', '.join(dtype.names)} (an HDF5 compound type)"
    kinds = {"c": "complex numbers", "O": "texts, references or lists", "S": "texts", "U": "texts"}
    return "lists of values (an HDF5 array type)" if dtype.subdtype is not None else kinds.get(dtype.kind)


def weight_shapes(file: Any) -> Counter[tuple[int, ...]]:
    """Count the shapes of the datasets in an open file."""
    import h5py

    shapes: Counter[tuple[int, ...]] = Counter()

    def count(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[tuple(item.shape or ())] += 1

    file.visititems(count)
    return shapes


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
