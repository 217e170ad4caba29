"""Bring the constants of an .onnx file that lie in another file of its folder into the model's bytes.

The format is ONNX's ExternalData.md: a TensorProto whose `data_location` is EXTERNAL has `location`, `offset` and
`length` in `external_data`. Exporters write such files for models of more than 2 GB, and some for every model.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.formats.flatbuffer import DamagedError, damage_named
from mbn_deploy.runtime.formats.protobuf import encoded, encoded_number, messages, numbers, text, wired
from mbn_deploy.runtime.system.files import LARGEST_FILE, read_file

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_TENSOR_NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 8, 9, 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_EXTERNAL = 1  # DataLocation


def with_external_data(data: bytes, path: Path) -> bytes:
    """Return the bytes of the model at `path` with all constants inside; `data` itself if they are there already.

    Only files in the model's own folder are read, and only as many bytes as one model file may have.

    Raises:
        InputError: the model is damaged, a file with its constants is missing, too short or elsewhere.
    """
    with damage_named(str(path), "ONNX"):
        graphs = messages(memoryview(data), _GRAPH)
        if not any(_is_external(tensor) for graph in graphs for tensor in messages(graph, _INITIALIZER)):
            return data
        folder = _Folder(path)
        return b"".join(
            encoded(_GRAPH, folder.graph(value)) if number == _GRAPH and isinstance(value, memoryview) else bytes(whole)
            for number, value, whole in wired(memoryview(data))
        )


def _is_external(tensor: memoryview) -> bool:
    return _EXTERNAL in numbers(tensor, _DATA_LOCATION)


class _Folder:
    """The files with constants beside a model, each read once."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._files: dict[str, bytes] = {}
        self._left = LARGEST_FILE  # bytes that constants may take; many may name the same part of a file

    def graph(self, data: memoryview) -> bytes:
        """Return a GraphProto with its constants inside."""
        return b"".join(
            encoded(_INITIALIZER, self._tensor(value))
            if number == _INITIALIZER and isinstance(value, memoryview) and _is_external(value)
            else bytes(whole)
            for number, value, whole in wired(data)
        )

    def _tensor(self, tensor: memoryview) -> bytes:
        fields = b"".join(
            bytes(whole) for number, _, whole in wired(tensor) if number not in (_EXTERNAL_DATA, _DATA_LOCATION)
        )
        return fields + encoded(_RAW_DATA, self._content(tensor)) + encoded_number(_DATA_LOCATION, 0)

    def _content(self, tensor: memoryview) -> bytes:
        entries = {text(entry, _KEY): text(entry, _VALUE) for entry in messages(tensor, _EXTERNAL_DATA)}
        name, content = text(tensor, _TENSOR_NAME), self._file(entries.get("location", ""))
        offset = _amount(entries.get("offset", "0"))
        length = _amount(entries["length"]) if "length" in entries else len(content) - offset
        if offset < 0 or length < 0 or offset + length > len(content):
            raise InputError(
                f"{self._model}: the weights {name!r} are {length} bytes at byte {offset} of "
                f"{entries.get('location')!r}, which has {len(content)}; both files must come from one export"
            )
        self._left -= length
        if self._left < 0:
            raise InputError(f"{self._model}: its weights take more than {LARGEST_FILE >> 30} GiB, too many to run")
        return content[offset : offset + length]

    def _file(self, location: str) -> bytes:
        if location not in self._files:
            self._files[location] = self._read(location)
        return self._files[location]

    def _read(self, location: str) -> bytes:
        """Read a file beside the model; `location` must be a plain name."""
        plain = PurePosixPath(location).name == location and PureWindowsPath(location).name == location
        if not plain or location in ("", ".", "..") or "\0" in location:
            raise InputError(
                f"{self._model}: its weights are said to lie in {location!r}; only files in the model's own folder are "
                "read"
            )
        place = self._model.parent / location
        if not place.exists():
            raise InputError(
                f"{self._model}: its weights lie in {place}, which is missing; the two files belong together"
            )
        return read_file(place, LARGEST_FILE - sum(map(len, self._files.values())))


def _amount(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise DamagedError(f"{value!r:.40} is no number of bytes")
    return int(value)
