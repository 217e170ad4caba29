"""Check the models in an Android archive: whether a phone can map them, and whether they are the right ones."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from zipfile import ZipInfo

from mbn_deploy.check_apk.archive import ZipArchive, is_stored
from mbn_deploy.check_apk.label_files import check_label_files
from mbn_deploy.check_apk.layout import Layout
from mbn_deploy.check_apk.model import HEAD_BYTES, ArchivedModel, ModelKind, kind_is_sure, kind_of, read_model
from mbn_deploy.check_apk.reference import Reference, References
from mbn_deploy.check_apk.report import Finding, ModelReport
from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256, sha256_of_parts
from mbn_deploy.manifest import TensorInfo

READ_LIMIT = 256 * 2**20  # bytes: larger models are compared by their checksum only
MAPPED_ALIGNMENT = 4  # bytes: numbers in a mapped model must be aligned to it (developer.android.com, "zipalign")

_STORE = {
    "apk": 'android {{ androidResources {{ noCompress += "{0}" }} }} in build.gradle.kts; with aapt2 alone: -0 .{0}',
    "aab": 'android {{ androidResources {{ noCompress += "{0}" }} }} in the build.gradle.kts of the app',
}
_ALIGN = "run zipalign -f -P 16 4 IN.apk OUT.apk, and then apksigner"
_ONE_BUNDLE = "take model, labels and manifest from one bundle, and build again"
_PACK_STORED = "pack it again without compression (zip -0)"


@dataclass(frozen=True)
class _Inspection:
    """A model's checksum, what it says of itself, and what is wrong with it; `data` is None for very large models."""

    kind: ModelKind
    sha256: str
    data: bytes | None = None
    info: ArchivedModel = field(default_factory=ArchivedModel)
    findings: tuple[Finding, ...] = ()


def check_models(layout: Layout, bundle: Reference | None) -> tuple[tuple[ModelReport, ...], tuple[Finding, ...]]:
    """Report every model and the problems found; raises `InputError` for damaged data."""
    references = References(layout.archive, bundle)
    reports: list[ModelReport] = []
    findings: list[Finding] = []
    labels: dict[str, tuple[str, ...]] = {}
    for entry in layout.archive.entries.values():
        inspection = _inspect(layout.archive, entry) if layout.may_be_model(entry) else None
        if inspection is None:
            continue
        report = _report(entry, inspection, stored=layout.stored(entry), alignment=layout.alignment(entry))
        reference = references.of(posixpath.dirname(entry.filename))
        if reference is not None:
            report = replace(report, matched=reference.match(report.name, report.sha256)[0])
            findings += _differences(report, inspection.info, reference)
        findings += [*_mapping_problems(layout, report), *inspection.findings]
        reports.append(report)
        if inspection.info.labels is not None:
            labels[report.name] = inspection.info.labels
        if inspection.kind == "task" and inspection.data is not None:
            inner_reports, inner_findings = _inner_models(entry.filename, inspection.data)
            reports += inner_reports
            findings += inner_findings
    findings += check_label_files(layout, reports, references, labels)
    findings += _nothing_matched(reports, bundle)
    return tuple(reports), (*references.findings, *findings)


def _inspect(archive: ZipArchive, entry: ZipInfo) -> _Inspection | None:
    """Read a model; None for a file that is not one, or only begins like one."""
    name = entry.filename
    kind = kind_of(name, archive.part(entry, 0, HEAD_BYTES))
    if kind is None or (entry.file_size > READ_LIMIT and not kind_is_sure(name, kind)):
        return None
    if entry.file_size > READ_LIMIT:
        note = Finding("note", name, f"is larger than {READ_LIMIT >> 20} MiB: its contents were not checked")
        return _Inspection(kind, sha256_of_parts(archive.chunks(entry)), findings=(note,))
    data = archive.read(entry, READ_LIMIT)
    try:
        info = read_model(kind, data, "it")
    except InputError as error:
        if not kind_is_sure(name, kind):
            return None
        problem = Finding("problem", name, f"cannot be used: {str(error).removeprefix('it: ')}", _ONE_BUNDLE)
        return _Inspection(kind, sha256(data), findings=(problem,))
    problems = tuple(Finding("problem", name, text, _ONE_BUNDLE) for text in info.problems)
    return _Inspection(kind, sha256(data), data, info, problems)


def _report(entry: ZipInfo, inspection: _Inspection, *, stored: bool | None, alignment: int | None) -> ModelReport:
    info = inspection.info
    return ModelReport(
        name=entry.filename,
        kind=inspection.kind,
        size=entry.file_size,
        packed=entry.compress_size,
        stored=stored,
        alignment=alignment,
        sha256=inspection.sha256,
        input=_tensors_text(info.inputs),
        output=_tensors_text(info.outputs),
        classes=info.classes,
        answers=info.answers,
        labels=None if info.labels is None else len(info.labels),
        metadata=info.metadata,
    )


def _tensors_text(tensors: tuple[TensorInfo, ...]) -> str | None:
    """Return types and shapes, as in `uint8 1×224×224×3`; several are separated by commas."""
    texts = (f"{t.dtype} {'×'.join('?' if n < 0 else str(n) for n in t.shape)}".rstrip() for t in tensors)
    return ", ".join(texts) or None


def _mapping_problems(layout: Layout, report: ModelReport) -> Iterator[Finding]:
    """Find what keeps a phone from mapping the file where it lies in the APK."""
    if report.stored is False:
        suffix = PurePosixPath(report.name).suffix.lstrip(".") or report.kind
        advice = _STORE[layout.kind].format(suffix)
        if report.kind == "onnx":
            text = "is compressed: it cannot be mapped, but is unpacked into memory whenever it is opened"
            yield Finding("note", report.name, text, advice)
        else:
            start = "is compressed" if layout.kind == "apk" else "will be compressed in the APKs that the store makes"
            yield Finding("problem", report.name, f"{start}: AssetManager.openFd fails, it cannot be mapped", advice)
    if report.kind != "onnx" and report.alignment is not None and report.alignment < MAPPED_ALIGNMENT:
        text = f"does not begin at a multiple of {MAPPED_ALIGNMENT} bytes: numbers in a mapped model must be aligned"
        yield Finding("problem", report.name, text, _ALIGN)


def _differences(report: ModelReport, info: ArchivedModel, reference: Reference) -> Iterator[Finding]:
    """Find where a model differs from what the manifest says."""
    matched, file = reference.match(report.name, report.sha256)
    where = reference.where
    if file is None:
        yield Finding("note", report.name, f"is not a file of {where}")
        return
    if matched == "differs":
        text = f"is not the {file.path} of {where}: its sha256 is {report.sha256[:12]}…, not {file.sha256[:12]}…"
        yield Finding("problem", report.name, text, _ONE_BUNDLE)
    for end, tensors, expected in (("input", info.inputs, file.input), ("output", info.outputs, file.output)):
        if tensors and (tensors[0].dtype, tensors[0].shape) != (expected.dtype, expected.shape):
            text = f"its {end} is {_tensors_text(tensors)}; {where} says {_tensors_text((expected,))}"
            yield Finding("problem", report.name, text, _ONE_BUNDLE)
    if info.labels is not None and reference.labels is not None and info.labels != reference.labels:
        yield Finding("problem", report.name, f"its labels are not those of {where}", _ONE_BUNDLE)


def _inner_models(task: str, data: bytes) -> tuple[list[ModelReport], list[Finding]]:
    """Check the models in a .task file: MediaPipe maps them there, so they must not be compressed in it either."""
    reports, findings = [], []
    try:
        archive = ZipArchive(io.BytesIO(data), "it")
        for entry in archive.entries.values():
            inspection = _inspect(archive, entry) if entry.file_size else None
            if inspection is None or inspection.kind != "tflite":
                continue
            report = _report(entry, inspection, stored=is_stored(entry), alignment=None)
            report = replace(report, name=f"{task}!{entry.filename}")
            reports.append(report)
            findings += [replace(finding, entry=report.name) for finding in inspection.findings]
            if not report.stored:
                text = "is compressed in the .task file: MediaPipe refuses it"
                findings.append(Finding("problem", report.name, text, _PACK_STORED))
    except InputError as error:
        return [], [Finding("problem", task, f"cannot be used: {str(error).removeprefix('it: ')}", _PACK_STORED)]
    return reports, findings


def _nothing_matched(reports: list[ModelReport], bundle: Reference | None) -> Iterator[Finding]:
    if bundle is not None and not any(report.matched in ("equal", "differs") for report in reports):
        names = ", ".join(file.path for file in bundle.manifest.files)
        yield Finding(
            "problem", "", f"the app has none of the models of {bundle.where} ({names})", "is this the right app?"
        )
