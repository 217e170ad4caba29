"""`mbn-deploy check-apk FILE`: find what breaks on a phone in an Android app's models and libraries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json, path_argument, path_option
from mbn_deploy.cli.output import human_bytes, plain, print_json, stdout, table
from mbn_deploy.errors import VerificationError
from mbn_deploy.manifest import DESCRIPTION_KEY
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY

if TYPE_CHECKING:
    from mbn_deploy.check_apk.report import ApkReport, LibraryReport, ModelReport

_KINDS = {
    "apk": "an APK",
    "aab": "an app bundle (the store makes APKs of it, as its BundleConfig.pb says)",
    "aar": "a library (the build of the app that uses it compresses and aligns its files)",
}
_METADATA = {DESCRIPTION_KEY: "ours", GOOGLE_KEY: "Google's"}
_MATCHED = {"equal": "equal", "differs": "DIFFERS", "unknown": "none", None: "-"}


@guarded
def check_apk(
    file: Annotated[Path, path_argument("FILE", "An .apk, .aab or .aar file.")],
    *,
    bundle: Annotated[Path | None, path_option(help="Compare models and labels with those of this bundle.")] = None,
    as_json: Json = False,
) -> None:
    """Find what breaks on a phone in an Android app's models and native libraries. Exit code 5 if anything does.

    Models must be uncompressed, aligned, whole, and those of the bundle; 64-bit libraries must fit pages of 16 KB.
    """
    from mbn_deploy.check_apk.check import check_apk as check

    report = check(file, bundle)
    if as_json:
        print_json(_facts(report))
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(VerificationError.exit_code)


def _facts(report: ApkReport) -> dict[str, Any]:
    return asdict(report) | {"passed": report.passed, "abis": list(report.abis)}


def _print(report: ApkReport) -> None:
    console = stdout()
    console.print(plain(f"{report.path}: {report.entries} files, {_KINDS[report.kind]}"), soft_wrap=True)
    if report.models:
        console.print()
        _models(console, report)
    if report.libraries:
        console.print()
        _libraries(console, report)
    for (level, text, advice), names in _grouped(report).items():
        console.print()
        where = f" {', '.join(names)}" if names != [""] else ""
        console.print(plain(f"{'PROBLEM' if level == 'problem' else 'note'}{where}: {text}"), soft_wrap=True)
        if advice:
            console.print(plain(f"  {advice}"), soft_wrap=True)
    console.print()
    count = len(report.problems)
    console.print(
        "No problems found."
        if report.passed
        else f"{count} {'problems' if count > 1 else 'problem'}: the app would fail on some or all phones."
    )


def _grouped(report: ApkReport) -> dict[tuple[str, str, str], list[str]]:
    """Group files by what was found in them; many libraries often have the same problem."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in report.findings:
        groups.setdefault((finding.level, finding.text, finding.advice), []).append(finding.entry)
    return groups


def _models(console: Console, report: ApkReport) -> None:
    compared = any(model.matched for model in report.models)
    shown = table("model", "size", "on a phone", "labels", "metadata", *(["manifest"] if compared else []))
    for model in report.models:
        tensors = "" if model.input is None else f"\n  in {model.input}\n  out {model.output}"
        known = [_METADATA[name] for name in model.metadata if name in _METADATA]
        columns = [plain(model.name + tensors), human_bytes(model.size), _placed(model), _labels(model)]
        columns += [" and ".join(known) or "-", *([_MATCHED[model.matched]] if compared else [])]
        shown.add_row(*columns)
    console.print(shown)


def _labels(model: ModelReport) -> str:
    if model.labels is None or model.labels in model.answers.label_counts(model.classes or 0):
        return "-" if model.labels is None else str(model.labels)
    return f"{model.labels} for {model.classes or '?'}"


def _libraries(console: Console, report: ApkReport) -> None:
    shown = table("native library", "size", "on a phone", "pages up to")
    for library in report.libraries:
        pages = "?" if library.page_size is None else f"{library.page_size / 1024:g} KB"
        shown.add_row(plain(library.name), human_bytes(library.size), _placed(library), pages)
    console.print(shown)


def _placed(report: ModelReport | LibraryReport) -> str:
    """Return `stored /4096` for a file that is uncompressed, at a multiple of 4096 bytes."""
    if report.stored is None:
        return "-"
    place = "" if report.alignment is None else f" /{report.alignment}"
    return f"stored{place}" if report.stored else "compressed"
