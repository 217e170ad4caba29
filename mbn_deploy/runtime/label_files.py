"""Read the names of classes in the forms in which people have them.

A text file with one name a line, numbered lines, one line with commas, CSV, JSON (a list, or an object in either
direction), the label maps of TensorFlow's object detection (pbtxt), or a folder with one sub-folder a class. Where
numbers stand beside the names, the numbers count and not the order of the lines. A bundle's own `labels.txt` is read by
`runtime.labels`: there every line is a name, whatever it looks like.
"""

from __future__ import annotations

import codecs
import csv
import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.system.files import read_file

# A number, a separator and a name. A colon, comma or the like may follow the number directly; a dot needs a space
# behind it, since "1.5 V" is a name.
_NUMBERED = re.compile(r"\s*(\d+)(?:\s*[:,;=\t]\s*|[.)]\s+|\s+-\s+|\s+)(\S.*)")
_INDEX_HEADINGS = ("index", "id", "class_id", "class_index", "class id", "number", "idx", "key")
_NAME_HEADINGS = ("label", "name", "class", "class_name", "class name", "display_name", "category", "labels", "classes")
_ITEM = re.compile(r"item\s*\{(.{0,4096}?)\}", re.DOTALL)  # bounded: the time for a text without a brace is, too
_FIELD = re.compile(r"(\w+)\s*:\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|(-?\d+))")
# A file, a folder with a sub-folder a class, the names in order, or a dictionary in either direction.
Labels = str | Path | PathLike[str] | Sequence[str] | Mapping[int, str] | Mapping[str, int]

_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_labels(labels: Labels) -> tuple[str, ...]:
    """Return the names of classes in their order, in whatever form they are given.

    Raises:
        InputError: names the file, or `labels`, and what is wrong.
    """
    if isinstance(labels, (str, PathLike)):
        return read_label_file(Path(labels))
    if isinstance(labels, Mapping):
        return labels_in_mapping(labels, "labels")
    return tuple(map(str, labels))


def read_label_file(path: Path) -> tuple[str, ...]:
    """Read the names of classes from a file, or take the sub-folders of a folder.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    return folder_labels(path) if path.is_dir() else parse_label_file(read_file(path), str(path))


def folder_labels(folder: Path) -> tuple[str, ...]:
    """List the sub-folders in alphabetical order, as `keras.utils.image_dataset_from_directory` numbers its classes.

    Links to folders count; hidden folders do not. Raises `InputError` for a folder without any.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not names:
        raise InputError(f"{folder}: it has no sub-folders that could name classes")
    return tuple(names)


def parse_label_file(data: bytes, where: str) -> tuple[str, ...]:
    """Read the names of classes in any of the forms above, in the order of the classes.

    Raises:
        InputError: names `where`, and the class that has no name or two.
    """
    text = _text(data, where).strip("\n")
    if not text.strip():
        raise InputError(f"{where}: it has no labels")
    if text.lstrip().startswith(("[", "{")):
        parsed = _json(text)
        if parsed is not None:
            return _from_json(parsed, where)
        if where.lower().endswith(".json"):
            raise InputError(f"{where}: it is not JSON")
    if _ITEM.match(text.lstrip()):
        return _from_label_map(text, where)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) == 1 and "," in lines[0] and _NUMBERED.fullmatch(lines[0]) is None:
        return tuple(name.strip() for name in _cells(lines, where)[0] if name.strip())
    return _from_table(lines, where) or _from_numbered(lines, where) or tuple(lines)


def labels_by_class(pairs: Iterable[tuple[int, str]], where: str) -> tuple[str, ...]:
    """Return the names in the order of their class numbers, which begin with 0.

    Raises:
        InputError: names the class that has no name or two.
    """
    by_class: dict[int, str] = {}
    for index, name in pairs:
        if index in by_class:
            raise InputError(f"{where}: class {index} has two labels, {by_class[index]!r} and {name!r}")
        by_class[index] = name
    missing = next((index for index in range(len(by_class)) if index not in by_class), None)
    if missing is not None:
        raise InputError(
            f"{where}: class {missing} has no label, though others up to {max(by_class)} have one; numbers begin "
            "with 0. If the numbers are part of the names, give the names as a JSON list"
        )
    return tuple(by_class[index] for index in range(len(by_class)))


def labels_in_mapping(labels: Mapping[Any, Any], where: str) -> tuple[str, ...]:
    """Return the names of a dictionary from class to name or from name to class.

    Raises:
        InputError: names an entry that is not a class number and a name, or the class that has no name or two.
    """
    if not labels:
        raise InputError(f"{where}: it has no labels")
    names_are_keys = _names_are_keys(labels)
    pairs = [(value, key) if names_are_keys else (key, value) for key, value in labels.items()]
    return labels_by_class(
        [(_class_number(index, name, where), _name(index, name, where)) for index, name in pairs], where
    )


def _names_are_keys(labels: Mapping[Any, Any]) -> bool:
    """Tell the direction: texts are names and numbers are classes; of two texts the one of digits is the class."""
    if all(isinstance(value, str) for value in labels.values()):
        texts = all(isinstance(key, str) for key in labels)
        return texts and not all(map(_is_digits, labels)) and all(map(_is_digits, labels.values()))
    return True


def _is_digits(value: str) -> bool:
    return value.strip().isdecimal()


def _class_number(value: Any, name: Any, where: str) -> int:
    if isinstance(value, str) and _is_digits(value):
        return int(value)
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{where}: the class of {name!r} is {value!r}, which is not a whole number") from None


def _name(index: Any, name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise InputError(f"{where}: {index!r}: {name!r} is not a class number and a name")
    return name


def _text(data: bytes, where: str) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and data[1::2].count(0) > len(data) // 4:  # UTF-16 without a mark: mostly ASCII
        encoding = "utf-16-le"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: labels must be UTF-8 or UTF-16 text: {error}") from None
    # str.splitlines() would also split at characters that may be part of a label.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_json(value: Any, where: str) -> tuple[str, ...]:
    """Read a list of names, or an object in either direction, also inside another object ("names", "id2label")."""
    if isinstance(value, dict):
        inner = [entry for entry in value.values() if isinstance(entry, (list, dict))]
        nested = next((value[key] for key in ("id2label", "names", "labels", "classes") if key in value), None)
        if isinstance(nested, (list, dict)):
            return _from_json(nested, where)
        if len(value) == len(inner) == 1 and not str(next(iter(value))).isdigit():
            return _from_json(inner[0], where)
        return labels_in_mapping({key: _one_name(entry) for key, entry in value.items()}, where)
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: a JSON list of labels or an object of them is expected")
    if all(isinstance(entry, dict) for entry in value):
        rows = [{str(key).lower(): str(entry[key]) for key in entry} for entry in value]
        return _from_rows([list(row.values()) for row in rows], list(rows[0]), where) or ()
    names = [_one_name(entry) for entry in value]
    if not all(isinstance(name, (str, int, float)) for name in names):
        raise InputError(f"{where}: a JSON list of labels has an entry that is neither a text nor a number")
    return tuple(map(str, names))


def _one_name(entry: Any) -> Any:
    """Return the last text of a list: Keras' own class index of ImageNet has [synset, name]."""
    return entry[-1] if isinstance(entry, list) and entry and all(isinstance(part, str) for part in entry) else entry


def _from_label_map(text: str, where: str) -> tuple[str, ...]:
    pairs = []
    for item in _ITEM.findall(text):
        fields = {key: double or single or number for key, double, single, number in _FIELD.findall(item)}
        name = fields.get("display_name") or fields.get("name")
        if name is None or not fields.get("id", "").isdigit():
            raise InputError(f"{where}: an item of the label map has no id or no name")
        pairs.append((int(fields["id"]), name))
    return labels_by_class(pairs, where)


def _from_table(lines: Sequence[str], where: str) -> tuple[str, ...] | None:
    """Read CSV with a header, or with numbers in one column; None for lines that are neither."""
    delimiter = max(",;\t", key=lines[0].count)
    rows = [[cell.strip() for cell in row] for row in _cells(lines, where, delimiter)]
    header = [cell.lower() for cell in rows[0]]
    known = {*_INDEX_HEADINGS, *_NAME_HEADINGS}
    if len(rows) > 1 and (len(header) > 1 or where.lower().endswith(".csv")) and set(header) & known:
        if any(len(row) != len(header) for row in rows):
            raise InputError(f"{where}: not every line has as many columns as the heading, {len(header)}")
        return _from_rows(rows[1:], header, where)
    if where.lower().endswith((".csv", ".tsv")) and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
        return _from_rows(rows, [], where)
    return None


def _cells(lines: Sequence[str], where: str, delimiter: str = ",") -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{where}: its columns cannot be read: {error}") from error


def _from_rows(rows: Sequence[Sequence[str]], header: Sequence[str], where: str) -> tuple[str, ...] | None:
    """Read the column of names, in the order of the column of numbers if there is one."""
    columns = range(len(rows[0]))
    numeric = [at for at in columns if all(row[at].isdigit() for row in rows)]
    by_heading = [at for at in numeric if header and header[at] in _INDEX_HEADINGS]
    index = next(iter(by_heading or ([] if header else numeric)), None)
    names = [at for at in columns if at != index and (not header or header[at] in _NAME_HEADINGS)]
    if not names:
        return None
    found = [row[names[0]] for row in rows]
    if index is None:
        return tuple(found)
    return labels_by_class([(int(row[index]), name) for row, name in zip(rows, found, strict=True)], where)


def _from_numbered(lines: Sequence[str], where: str) -> tuple[str, ...] | None:
    """Read lines that all begin with a number and go on with a name; None for others."""
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    pairs = [(int(match[1]), match[2].strip()) for match in matches if match is not None]
    return labels_by_class(pairs, where) if len(pairs) == len(lines) else None
