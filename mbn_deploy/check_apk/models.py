"""Models in an Android archive: whether a phone can map them, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import io
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mbn_deploy.check_apk.archive import ZipArchive
from mbn_deploy.check_apk.directory import Window, ZipEntry
from mbn_deploy.check_apk.layout import Layout
from mbn_deploy.check_apk.model import HEAD_BYTES, ModelFacts, ModelKind, kind_is_sure, kind_of, read_model
from mbn_deploy.check_apk.reference import Reference, read_text, reference_beside
from mbn_deploy.check_apk.report import Finding, ModelReport
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import LABELS_NAME, TensorInfo
from mbn_deploy.runtime.labels import mismatch, parse_labels

READ_LIMIT = 256 * 2**20  # bytes of a model that is looked into; of larger ones there is the checksum only
MAPPED = 4  # bytes: what a mapped model must be aligned to (zipalign's page at developer.android.com)

_STORE = {
    "apk": 'android {{ androidResources {{ noCompress += "{0}" }} }} in build.gradle.kts; of aapt2 alone: -0 .{0}',
    "aab": 'android {{ androidResources {{ noCompress += "{0}" }} }} in the build.gradle.kts of the app',
}
_ALIGN = "zipalign -f -P 16 4 IN.apk OUT.apk, and then apksigner"
_SAME = "take model, labels and manifest from one bundle, and build again"


@dataclass(frozen=True)
class _Inside:
    """A model's bytes if they are not too many, their sha256, and what was read of them."""

    data: bytes | None
    sha256: str
    facts: ModelFacts
    findings: tuple[Finding, ...]


def check_models(layout: Layout, bundle: Reference | None) -> tuple[tuple[ModelReport, ...], tuple[Finding, ...]]:
    """Every model, and what is wrong with them. Raises `InputError` where data cannot be read."""
    reports: list[ModelReport] = []
    findings: list[Finding] = []
    beside: dict[str, Reference | None] = {}
    for entry in layout.archive.entries.values():
        if not layout.may_be_model(entry):
            continue
        kind = kind_of(entry.name, layout.archive.part(entry, 0, HEAD_BYTES))
        if kind is None:
            continue
        inside = _look_inside(layout.archive, entry, kind)
        if inside is None:
            continue
        folder = posixpath.dirname(entry.name)
        if bundle is None and folder not in beside:
            beside[folder], found = reference_beside(layout.archive, folder)
            findings += found
        reference = bundle or beside[folder]
        report = _report(layout, entry, kind, inside)
        if reference is not None:
            report = replace(report, matched=reference.match(entry.name, inside.sha256)[0])
            findings += _compared(report, inside.facts, reference)
        findings += [*_mapping(layout, report), *inside.findings]
        reports.append(report)
        if kind == "task" and inside.data is not None:
            inner, found = _inner_models(entry, inside.data)
            reports += inner
            findings += found
    findings += [*_labels_files(layout.archive, reports, beside), *_missing(reports, bundle)]
    return tuple(reports), tuple(findings)


def _look_inside(archive: ZipArchive, entry: ZipEntry, kind: ModelKind) -> _Inside | None:
    """None for a file that only began like a model."""
    if entry.size > READ_LIMIT:
        if not kind_is_sure(entry.name, kind):
            return None
        digest = hashlib.sha256()
        for piece in archive.chunks(entry):
            digest.update(piece)
        note = Finding("note", entry.name, f"is larger than {READ_LIMIT >> 20} MiB, and was not looked into")
        return _Inside(None, digest.hexdigest(), ModelFacts(), (note,))
    data = archive.read(entry, READ_LIMIT)
    digest = hashlib.sha256(data)
    try:
        facts = read_model(kind, data, "it")
    except InputError as error:
        if not kind_is_sure(entry.name, kind):
            return None
        text = f"cannot be used: {str(error).removeprefix('it: ')}"
        return _Inside(None, digest.hexdigest(), ModelFacts(), (Finding("problem", entry.name, text, _SAME),))
    wrong = tuple(Finding("problem", entry.name, text, _SAME) for text in facts.problems)
    return _Inside(data, digest.hexdigest(), facts, wrong)


def _report(layout: Layout, entry: ZipEntry, kind: ModelKind, inside: _Inside) -> ModelReport:
    facts = inside.facts
    return ModelReport(
        entry.name, kind, entry.size, entry.packed, layout.stored(entry), layout.alignment(entry), inside.sha256,
        input=_shown(facts.inputs), output=_shown(facts.outputs), classes=facts.classes,
        labels=None if facts.labels is None else len(facts.labels), metadata=facts.metadata,
    )  # fmt: skip


def _shown(tensors: tuple[TensorInfo, ...]) -> str | None:
    """`uint8 1×224×224×3`; several with commas."""
    texts = (f"{t.dtype} {'×'.join('?' if n < 0 else str(n) for n in t.shape)}".rstrip() for t in tensors)
    return ", ".join(texts) or None


def _mapping(layout: Layout, report: ModelReport) -> Iterator[Finding]:
    """Whether a phone can map the file where it lies in the APK."""
    if report.stored is False:
        suffix = PurePosixPath(report.name).suffix.lstrip(".") or report.kind
        advice = _STORE[layout.kind].format(suffix)
        if report.kind == "onnx":
            text = "is compressed: it cannot be mapped, but must be unpacked into memory whenever it is opened"
            yield Finding("note", report.name, text, advice)
        else:
            will = "is compressed" if layout.kind == "apk" else "will be compressed in the APKs that are made of this"
            yield Finding("problem", report.name, f"{will}: AssetManager.openFd fails, it cannot be mapped", advice)
    if report.kind != "onnx" and report.alignment is not None and report.alignment < MAPPED:
        text = f"lies at a place that is no multiple of {MAPPED} bytes: numbers in a mapped model must lie aligned"
        yield Finding("problem", report.name, text, _ALIGN)


def _compared(report: ModelReport, facts: ModelFacts, reference: Reference) -> Iterator[Finding]:
    """What is not as the manifest says."""
    matched, file = reference.match(report.name, report.sha256)
    where = reference.where
    if file is None:
        yield Finding("note", report.name, f"is no file of {where}")
        return
    if matched == "differs":
        text = f"is not the {file.path} of {where}: its sha256 is {report.sha256[:12]}…, not {file.sha256[:12]}…"
        yield Finding("problem", report.name, text, _SAME)
    for end, tensors, said in (("input", facts.inputs, file.input), ("output", facts.outputs, file.output)):
        if tensors and (tensors[0].dtype, tensors[0].shape) != (said.dtype, said.shape):
            text = f"its {end} is {_shown(tensors)}, {where} says {_shown((said,))}"
            yield Finding("problem", report.name, text, _SAME)
    if facts.labels is not None and reference.labels is not None and facts.labels != reference.labels:
        yield Finding("problem", report.name, f"its labels are not those of {where}", _SAME)


def _inner_models(entry: ZipEntry, data: bytes) -> tuple[list[ModelReport], list[Finding]]:
    """The models in a .task file, which MediaPipe maps where they lie: they must not be compressed in it, either."""
    reports, findings = [], []
    try:
        archive = ZipArchive(Window(io.BytesIO(data), 0, len(data), "it"))
        for inner in archive.entries.values():
            kind = kind_of(inner.name, archive.part(inner, 0, HEAD_BYTES)) if inner.size else None
            inside = _look_inside(archive, inner, kind) if kind == "tflite" else None
            if kind is None or inside is None:
                continue
            name, facts = f"{entry.name}!{inner.name}", inside.facts
            report = ModelReport(
                name, kind, inner.size, inner.packed, inner.stored, None, inside.sha256,
                input=_shown(facts.inputs), output=_shown(facts.outputs), classes=facts.classes,
                labels=None if facts.labels is None else len(facts.labels), metadata=facts.metadata,
            )  # fmt: skip
            reports.append(report)
            findings += [replace(finding, entry=name) for finding in inside.findings]
            if not inner.stored:
                text = "is compressed in the .task file: MediaPipe refuses it"
                findings.append(Finding("problem", name, text, "pack it again without compression (zip -0)"))
    except InputError as error:
        text = f"cannot be used: {str(error).removeprefix('it: ')}"
        return [], [Finding("problem", entry.name, text, "pack it again, without compression (zip -0)")]
    return reports, findings


def _labels_files(
    archive: ZipArchive, reports: list[ModelReport], beside: dict[str, Reference | None]
) -> Iterator[Finding]:
    """Files called labels.txt that fit none of the models in their folder; a manifest's were compared with it."""
    classes: dict[str, list[int]] = {}
    for report in reports:
        if report.classes is not None:
            classes.setdefault(posixpath.dirname(report.name), []).append(report.classes)
    for folder, counts in classes.items():
        name = posixpath.join(folder, LABELS_NAME)
        data = None if beside.get(folder) is not None else read_text(archive, name)
        if data is None:
            continue
        try:
            labels = parse_labels(data, "it")
        except InputError as error:
            yield Finding("problem", name, f"cannot be read: {error}", _SAME)
            continue
        if len(labels) not in counts:
            yield Finding("problem", name, str(mismatch(labels, counts[0], "it")).removeprefix("it: "), _SAME)


def _missing(reports: list[ModelReport], bundle: Reference | None) -> Iterator[Finding]:
    if bundle is not None and not any(report.matched in ("equal", "differs") for report in reports):
        names = ", ".join(file.path for file in bundle.manifest.files)
        yield Finding("problem", "", f"none of {bundle.where}'s models is in it ({names})", "was another app given?")
