"""What of an Android app breaks on a phone, told from its .apk, .aab or .aar: models and native libraries.

Nothing is unpacked to the disk, and nothing but Python and numpy is needed.
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
        path: the archive; its kind is told by its content.
        bundle: a folder that `export` made, whose models should be in it. Without it a manifest.json that lies
            beside the models in the archive is taken.

    Raises:
        InputError: no Android archive, a damaged or hostile one, or a damaged bundle.
    """
    where = Path(path)
    reference = None if bundle is None else bundle_reference(Path(bundle))
    with open_zip(where) as archive:
        layout = layout_of(archive)
        models, about_models = check_models(layout, reference)
        libraries, about_libraries = check_libraries(layout)
        nothing = () if models else (Finding("note", "", "no .tflite, .onnx, .ort or .task model is in it"),)
        findings = (*about_models, *about_libraries, *nothing)
        ordered = tuple(sorted(findings, key=lambda finding: finding.level != "problem"))
        return ApkReport(str(where), layout.kind, len(archive.entries), models, libraries, ordered)
