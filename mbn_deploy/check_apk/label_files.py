"""Label files that lie beside the models in an Android archive, without a manifest that says what is in them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from mbn_deploy.check_apk.archive import ZipArchive
from mbn_deploy.check_apk.reference import References, read_text
from mbn_deploy.check_apk.report import Finding, ModelReport
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import LABELS_NAME
from mbn_deploy.runtime.labels import mismatch, parse_labels

_ADVICE = "take model and labels from one bundle, and build again"


def check_label_files(archive: ZipArchive, reports: Sequence[ModelReport], references: References) -> Iterator[Finding]:
    """Find files called labels.txt whose number of labels fits none of the models in their folder."""
    models: dict[str, list[ModelReport]] = {}
    for report in reports:
        if report.classes is not None:
            models.setdefault(posixpath.dirname(report.name), []).append(report)
    for folder, beside in models.items():
        # A manifest has the checksum of its labels, which was compared when the manifest was read.
        if references.beside(folder) is None:
            yield from _check_label_file(archive, posixpath.join(folder, LABELS_NAME), beside)


def _check_label_file(archive: ZipArchive, name: str, models: Sequence[ModelReport]) -> Iterator[Finding]:
    data = read_text(archive, name)
    if data is None:
        return
    try:
        labels = parse_labels(data, "it")
    except InputError as error:
        yield Finding("problem", name, f"cannot be read: {error}", _ADVICE)
        return
    wrong = [mismatch(labels, model.answers, model.classes or 0, "it") for model in models]
    if None not in wrong:
        yield Finding("problem", name, str(wrong[0]).removeprefix("it: "), _ADVICE)
