"""Check an .onnx file of unknown origin before an interpreter opens it.

One bounded walk over the protobuf (protobuf.dev, "Encoding"; field numbers of onnx.proto3) without the onnx package:
constants are as long as their shapes say, every value is computed before it is read, no data are outside of the file,
nothing loops, and no number that determines a size is larger than an image classifier needs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from mbn_deploy.runtime.formats.flatbuffer import DamagedError, UnsuitableError, damage_named
from mbn_deploy.runtime.formats.protobuf import number_at, numbered
from mbn_deploy.runtime.formats.tflite_file import LARGEST_TENSOR

MOST_FIELDS = 500_000
LARGEST_STEP = 4096  # of a window, a stride, a dilation, an amount of padding
LARGEST_AXIS = 2**24
LARGEST_SHAPE = 2**26  # values; the runtime takes memory for what a shape says before it compares it with the input
MOST_AMOUNTS = 16  # numbers; longer lists are no shapes
_DOMAINS = ("", "ai.onnx", "com.microsoft")  # of operations
# Every file that ONNX Runtime's optimizer or quantizer has saved declares these, whether it uses them or not.
_DECLARED = frozenset(
    {
        *_DOMAINS, "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training",
        "com.microsoft.experimental", "com.microsoft.nchwc", "com.ms.internal.nhwc", "org.pytorch.aten",
    }
)  # fmt: skip
# TensorProto.DataType: bits of a value, of those that have a size. Strings and complex numbers have no place here.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}
_INT64 = 7
# TensorProto's fields of numbers, and how long one is at least.
_LISTS = {4: 4, 5: 1, 7: 1, 10: 8, 11: 1}
_ELSEWHERE = frozenset({3, 6, 13})  # segment, string_data, external_data
_STEPS = frozenset(
    {"kernel_shape", "strides", "dilations", "pads", "output_padding", "output_shape", "group", "blocksize"}
)
_ENDLESS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_GRAPH_ATTRIBUTES = (6, 11, 22, 23)  # graphs, and sparse tensors


def check_onnx(data: bytes, where: str) -> None:
    """Raise `InputError` that names `where` for a file that could crash an interpreter."""
    with damage_named(where, "ONNX"):
        _Check().model(memoryview(data))


def unsuitable_for_onnxruntime(data: bytes, where: str) -> str | None:
    """Return why a sound file is not run, None if it is. Raises `InputError` for a damaged one."""
    try:
        with damage_named(where, "ONNX", unsuitable=False):
            _Check().model(memoryview(data))
    except UnsuitableError as error:
        return str(error)
    return None


class _Check:
    def __init__(self) -> None:
        self._left = MOST_FIELDS
        self._values: dict[str, int] = {}  # how many numbers each known value has, 0 where that is not known
        self._amounts: dict[str, tuple[int, ...]] = {}

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        for field in numbered(data):
            self._left -= 1
            if self._left < 0:
                raise DamagedError(f"more than {MOST_FIELDS} fields")
            yield field

    def _messages(self, data: memoryview) -> dict[int, list[memoryview]]:
        """Return the fields that have a length by their number, in their order."""
        fields: dict[int, list[memoryview]] = {}
        for number, value in self._fields(data):
            if isinstance(value, memoryview):
                fields.setdefault(number, []).append(value)
        return fields

    def model(self, data: memoryview) -> None:
        """Check a ModelProto."""
        fields = self._messages(data)
        if len(fields.get(7, [])) != 1:
            raise DamagedError(f"{len(fields.get(7, []))} graphs")
        if 25 in fields or 20 in fields:
            raise UnsuitableError("it has functions and training of its own, which no picture classifier needs")
        for opset in fields.get(8, []):
            for domain in self._messages(opset).get(1, []):
                if _text(domain) not in _DECLARED:
                    raise UnsuitableError(f"it has operations of domain {_text(domain)!r}, which are not run")
        self._check_texts(fields.get(14, []))
        graph = self._messages(fields[7][0])
        if 1 not in graph or 12 not in graph:
            raise DamagedError("there is no graph in it")
        if 15 in graph:
            raise UnsuitableError("it has sparse constants, which are not run")
        self.graph(graph)

    def _check_texts(self, metadata: list[memoryview]) -> None:
        """Check entries of StringStringEntryProto, which the runtime returns as text."""
        for entry in metadata:
            for values in self._messages(entry).values():
                for value in values:
                    _text(value)

    def graph(self, fields: dict[int, list[memoryview]]) -> None:
        """Check a GraphProto: constants, inputs, then ops in their order."""
        total = 0
        for tensor in fields.get(5, []):
            name, count, bits = self.tensor(tensor)
            if name in self._values:
                raise DamagedError(f"the constant {name!r} is there twice")
            self._values[name] = count
            total += count * bits // 8
        if total > LARGEST_TENSOR:
            raise UnsuitableError(f"it has constants of {total / 1e6:.0f} MB, too many for any picture classifier")
        for value in fields.get(11, []):
            name, count = self.value(value)
            self._values.setdefault(name, count)
        for value in (*fields.get(12, []), *fields.get(13, [])):
            self.value(value)
        for node in fields.get(1, []):
            self.node(node)
        for value in fields.get(12, []):
            name, _ = self.value(value)
            if name not in self._values:
                raise DamagedError(f"nothing writes the output {name!r}")

    def tensor(self, data: memoryview) -> tuple[str, int, int]:
        """Check a TensorProto; return its name, the number of values and the bits of one."""
        fields: dict[int, list[int | memoryview]] = {}
        for number, value in self._fields(data):
            fields.setdefault(number, []).append(value)
        name = _text(_last(fields, 8, memoryview(b"")))
        dims = [n for value in fields.get(1, []) for n in _numbers(value)]
        kind = _last(fields, 2, 0)
        bits = _BITS.get(kind, 0)
        if _ELSEWHERE & set(fields) or _last(fields, 14, 0):
            raise UnsuitableError(f"the constant {name!r} is text, a part, or lies outside of the file")
        if not bits:
            raise UnsuitableError(f"the constant {name!r} has type {kind}, which no picture classifier needs")
        if len(dims) > 8 or any(not 0 <= n <= LARGEST_AXIS for n in dims):
            raise DamagedError(f"the constant {name!r} has shape {dims}")
        count = math.prod(dims)
        self._check_content(name, dims, kind, fields)
        return name, count, bits

    def _check_content(self, name: str, dims: list[int], kind: int, fields: dict[int, list[int | memoryview]]) -> None:
        """Check that there are as many values as the shape says, in one of the two ways to store them."""
        count, bits = math.prod(dims), _BITS[kind]
        listed = sum(_listed(value, width) for number, width in _LISTS.items() for value in fields.get(number, []))
        if 9 not in fields:
            if listed not in {count, (count + 1) // 2 if bits == 4 else count}:
                raise DamagedError(f"the constant {name!r} of shape {dims} has {listed} values")
            return
        raw = _last(fields, 9, memoryview(b""))
        if listed or len(raw) != (count * bits + 7) // 8:
            raise DamagedError(f"the constant {name!r} of shape {dims} has {len(raw)} bytes of data")
        if kind == _INT64 and len(raw) <= 8 * MOST_AMOUNTS:
            self._amounts[name] = struct.unpack(f"<{len(raw) // 8}q", raw)

    def _check_amounts(self, kind: str, name: str) -> None:
        """Check shapes, amounts and axes: short lists of integers, but for the ends of a Slice, which may be any."""
        values = self._amounts.get(name, ())
        if kind == "Slice" or not values:
            return
        if max(map(abs, values)) > LARGEST_AXIS or math.prod(max(1, abs(n)) for n in values) > LARGEST_SHAPE:
            raise DamagedError(f"{kind}: the amounts {name!r} are {values}")

    def value(self, data: memoryview) -> tuple[str, int]:
        """Check a ValueInfoProto with a TypeProto.Tensor; return its name and size, 0 if a length is open."""
        fields = self._messages(data)
        name = _text(fields[1][-1]) if 1 in fields else ""
        count = 1
        for type_ in fields.get(2, []):
            kinds = self._messages(type_)
            if set(kinds) - {1, 6}:
                raise UnsuitableError(f"{name!r} is no tensor, but a sequence or a map")
            for tensor in kinds.get(1, []):
                for shape in self._messages(tensor).get(2, []):
                    for dimension in self._messages(shape).get(1, []):
                        count *= self._dimension(name, dimension)
        if count > LARGEST_TENSOR:
            raise UnsuitableError(f"{name!r} has {count} values, too many for any picture classifier")
        return name, count

    def _dimension(self, name: str, data: memoryview) -> int:
        for number, value in self._fields(data):
            if number == 1 and isinstance(value, int):
                if not 0 <= value <= LARGEST_AXIS:
                    raise DamagedError(f"{name!r} has an axis of length {value}")
                return value
        return 0

    def node(self, data: memoryview) -> None:
        """Check a NodeProto: what it reads is known, what it writes is new."""
        fields = self._messages(data)
        kind = _text(fields[4][-1]) if 4 in fields else ""
        domain = _text(fields[7][-1]) if 7 in fields else ""
        if kind in _ENDLESS or not kind or domain not in _DOMAINS:
            raise UnsuitableError(
                f"it has the operation {kind!r} of domain {domain!r}, which is not run in a file that no manifest "
                "vouches for"
            )
        for name in map(_text, fields.get(1, [])):
            if name and name not in self._values:
                raise DamagedError(f"{kind}: nothing writes its input {name!r} before it")
            self._check_amounts(kind, name)
        for attribute in fields.get(5, []):
            self._attribute(kind, attribute)
        for name in map(_text, fields.get(2, [])):
            if name and name in self._values:
                raise DamagedError(f"{kind}: its output {name!r} is there already")
            self._values[name] = 0

    def _attribute(self, kind: str, data: memoryview) -> None:
        name = ""
        numbers: list[int] = []
        for number, value in self._fields(data):
            if number == 1 and isinstance(value, memoryview):
                name = _text(value)
            elif number in (3, 8):
                numbers += _numbers(value)
            elif number == 5 and isinstance(value, memoryview):
                self.tensor(value)
            elif number in _GRAPH_ATTRIBUTES or number in (10, 14, 15):
                raise UnsuitableError(f"{kind}: an attribute holds a graph or sparse tensors, which are not run")
        low = 0 if name in ("pads", "output_padding") else 1
        if name in _STEPS and not all(low <= n <= (LARGEST_AXIS if name == "group" else LARGEST_STEP) for n in numbers):
            raise DamagedError(f"{kind}: {name} is {numbers}")


def _last(fields: dict[int, list[int | memoryview]], number: int, default: Any) -> Any:
    """Return the last value of a field, which must have the default's type."""
    value = fields.get(number, [default])[-1]
    if not isinstance(value, type(default)):
        raise DamagedError(f"field {number} of a constant is of another type")
    return value


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise DamagedError(f"a name or an entry of its metadata is no text: {error}") from None


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _numbers(value: int | memoryview) -> Sequence[int]:
    """Return the integers of one entry of a repeated field, which may be packed."""
    if isinstance(value, int):
        return [_signed(value)]
    if len(value) > 4096:
        raise DamagedError(f"a list of {len(value)} bytes where a shape is expected")
    integers, at = [], 0
    while at < len(value):
        number, at = number_at(value, at)
        integers.append(_signed(number))
    return integers


def _listed(value: int | memoryview, width: int) -> int:
    """Count the numbers of a packed list: of fixed width, or varints, whose last byte is below 128."""
    if isinstance(value, int):
        return 1
    return len(value) // width if width > 1 else sum(byte < 0x80 for byte in value)
