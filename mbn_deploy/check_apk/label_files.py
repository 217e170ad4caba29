"""Label files that lie loose in an Android archive: whether they fit a model, and whether they are the bundle's.

An app may keep them under any name and in any folder, as lines, CSV or JSON. So every small text file is read. It
counts as a label file if most of its words are labels that are known. If it has other words, its name must say so, or
it must have as many short lines as there are labels.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mbn_deploy.check_apk.layout import Layout
from mbn_deploy.check_apk.reference import TEXT_LIMIT, References, read_text
from mbn_deploy.check_apk.report import Finding, ModelReport
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import LABELS_NAME, MANIFEST_NAME
from mbn_deploy.runtime.label_files import parse_label_file
from mbn_deploy.runtime.labels import mismatch, parse_labels

Words = tuple[str, ...]

_ADVICE = "take model and labels from one bundle, and build again"
_CALLED_LABELS = re.compile(r"label|class|categor|synset|names", re.IGNORECASE)
_ENDINGS = ("", ".txt", ".csv", ".tsv", ".json", ".pbtxt", ".labels", ".names", ".list", ".lst", ".dat", ".bin")
_HEAD = 512  # bytes: a file with a NUL among them is no text
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LABEL = 120  # characters: a text with longer lines is prose
# Longer files are read as plain lines only: other forms spend at most about this much on each label.
_BYTES_A_LABEL, _SMALL = 512, 2**16


@dataclass(frozen=True)
class KnownLabels:
    """The labels in their order, and what says so: a bundle, a manifest in the archive, or a model with them inside."""

    where: str
    words: Words


@dataclass(frozen=True)
class _LabelFile:
    """A text file and its readings: as plain lines, and as numbered lines, CSV, JSON or the like if it can be so read.

    `error` says why it cannot be read as labels at all.
    """

    name: str
    readings: tuple[Words, ...]
    error: str = ""

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.name)

    @property
    def may_be_labels(self) -> bool:
        return posixpath.splitext(self.name)[1].lower() in _ENDINGS

    @property
    def called_labels(self) -> bool:
        return self.may_be_labels and _CALLED_LABELS.search(posixpath.basename(self.name)) is not None

    def shared(self, known: KnownLabels) -> float:
        """Return the share of words that a reading and the known labels have in common: the best reading's."""
        return max((_overlap(words, known.words) for words in self.readings), default=0.0)

    def counts(self) -> set[int]:
        return {len(words) for words in self.readings}


def known_labels(references: References, inside: Mapping[str, Words]) -> list[KnownLabels]:
    """List the labels that loose files may have: those of the manifests, and those `inside` models, by their names."""
    listed = [KnownLabels(r.where, r.labels) for r in references.used() if r.labels is not None]
    return listed + [KnownLabels(name, words) for name, words in inside.items()]


def check_label_files(
    layout: Layout, reports: Sequence[ModelReport], references: References, inside: Mapping[str, Words]
) -> Iterator[Finding]:
    """Find label files with other words, another order or another number of labels than the models have.

    Args:
        layout: the open archive.
        reports: its models.
        references: the bundle or the manifests that they are compared with.
        inside: the labels inside the models, by their names.
    """
    known = known_labels(references, inside)
    done = {finding.entry for finding in references.findings} | {report.name for report in reports}
    longest = max((len(each.words) for each in known), default=0)
    for name, entry in layout.archive.entries.items():
        if name in done or posixpath.basename(name) == MANIFEST_NAME or not layout.may_be_model(entry):
            continue
        if entry.file_size <= TEXT_LIMIT and _is_text(layout.archive.part(entry, 0, _HEAD)):
            file = _read(name, read_text(layout.archive, name) or b"", longest)
            yield from _check(file, reports, known)


def _is_text(head: bytes) -> bool:
    return head.startswith(_BYTE_ORDER_MARKS) or 0 not in head


def _read(name: str, data: bytes, longest: int) -> _LabelFile:
    readings, errors = [], []
    try:
        readings.append(parse_labels(data, "it"))
    except InputError as error:
        errors.append(str(error))
    if len(data) <= _SMALL + _BYTES_A_LABEL * longest:
        try:
            readings.append(parse_label_file(data, name))
        except InputError as error:
            errors.append(str(error))
    return _LabelFile(name, tuple(readings), "" if readings else errors[0])


def _check(file: _LabelFile, reports: Sequence[ModelReport], known: Sequence[KnownLabels]) -> Iterator[Finding]:
    if any(_same(words, each.words) for words in file.readings for each in known):
        return
    beside = [r for r in reports if posixpath.dirname(r.name) == file.folder and r.classes is not None]
    if file.error:
        if posixpath.basename(file.name) == LABELS_NAME and beside:
            yield Finding("problem", file.name, f"cannot be read: {file.error}", _ADVICE)
        return
    closest = max(known, key=file.shared, default=None)
    if file.called_labels and beside and not any(_fits(file, report) for report in beside):
        wrong = mismatch(file.readings[-1], beside[0].answers, beside[0].classes or 0, "it")
        yield Finding("problem", file.name, str(wrong).removeprefix("it: "), _ADVICE)
    elif closest is not None and _means(file, closest, reports):
        yield Finding("problem", file.name, _difference(file, closest), _ADVICE)


def _means(file: _LabelFile, known: KnownLabels, reports: Sequence[ModelReport]) -> bool:
    """Tell whether the file is meant for the models with these labels, though they differ."""
    if file.shared(known) >= 1 / 2:
        return True
    beside = [r for r in reports if posixpath.dirname(r.name) == file.folder]
    strangers = [r for r in reports if r.matched not in ("equal", "differs") and r.labels is None]
    if any(_fits(file, report) for report in strangers):
        return False  # they may be the labels of a model that is not the bundle's
    if file.called_labels:
        return not strangers or any(report not in strangers for report in beside)
    of_lines = [words for words in file.readings if len(words) == len(known.words)]
    short = any(all(len(word) <= _LONGEST_LABEL and "=" not in word for word in words) for words in of_lines)
    return file.may_be_labels and short and bool(beside or len(known.words) > 2)  # two short lines may be anything


def _fits(file: _LabelFile, report: ModelReport) -> bool:
    return report.classes is not None and bool(file.counts() & set(report.answers.label_counts(report.classes)))


def _same(words: Words, known: Words) -> bool:
    return [word.strip() for word in words] == [word.strip() for word in known]


def _overlap(words: Words, known: Words) -> float:
    ours, theirs = {word.strip() for word in words}, {word.strip() for word in known}
    return len(ours & theirs) / max(len(ours), len(theirs))


def _difference(file: _LabelFile, known: KnownLabels) -> str:
    """Say how the best reading of the file differs from the labels that are known."""
    words = max(file.readings, key=lambda each: (_overlap(each, known.words), len(each) == len(known.words)))
    if len(words) != len(known.words):
        return f"has {len(words)} labels; {known.where} has {len(known.words)}"
    order = "the labels in another order" if sorted(words) == sorted(known.words) else "other labels"
    pairs = enumerate(zip(words, known.words, strict=True))
    index, (found, wanted) = next((i, pair) for i, pair in pairs if pair[0].strip() != pair[1].strip())
    return f"has {order}: class {index} is {found!r}; {known.where} says {wanted!r}"
