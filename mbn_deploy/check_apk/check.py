"""Find what breaks on a phone in an Android app's models and native libraries, from its .apk, .aab or .aar file.

Nothing is unpacked to the disk, and only Python and numpy are needed.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from mbn_deploy.check_apk.archive import open_zip
from mbn_deploy.check_apk.layout import layout_of
from mbn_deploy.check_apk.libraries import check_libraries
from mbn_deploy.check_apk.models import check_models
from mbn_deploy.check_apk.reference import bundle_reference
from mbn_deploy.check_apk.report import ApkReport, Finding


def check_apk(path: str | PathLike[str], bundle: str | PathLike[str] | None = None) -> ApkReport:
    """Check an archive; problems are part of the report, not errors.

    Args:
        path: the archive; its content tells its kind.
        bundle: a folder that `export` made, whose models should be in the archive. Without it, models are compared with
            the manifest.json beside them in the archive, if there is one.

    Raises:
        InputError: not an Android archive, a damaged one, a zip bomb, or a damaged bundle.
    """
    where = Path(path)
    reference = None if bundle is None else bundle_reference(Path(bundle))
    with open_zip(where) as archive:
        layout = layout_of(archive)
        models, model_findings = check_models(layout, reference)
        libraries, library_findings = check_libraries(layout)
        nothing = () if models else (Finding("note", "", "the app has no .tflite, .onnx, .ort or .task model"),)
        findings = (*model_findings, *library_findings, *nothing)
        return ApkReport(
            path=str(where),
            kind=layout.kind,
            entries=len(archive.entries),
            models=models,
            libraries=libraries,
            findings=tuple(sorted(findings, key=lambda finding: finding.level != "problem")),
        )
