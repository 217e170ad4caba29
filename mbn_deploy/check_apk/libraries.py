"""Check native libraries in an Android archive: their processor, and whether phones with 16 KB pages load them.

Phones with Android 15 and later may have memory pages of 16 KB. Their 64-bit libraries must be linked for such pages
and, if the APK stores them uncompressed, begin at a multiple of 16 KB in it; otherwise the app does not start
(developer.android.com/guide/practices/page-sizes). 32-bit libraries stay with pages of 4 KB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from zipfile import ZipInfo

from mbn_deploy.check_apk.aab_config import CONFIG_NAME
from mbn_deploy.check_apk.archive import is_stored
from mbn_deploy.check_apk.elf import Library, read_library
from mbn_deploy.check_apk.layout import Layout
from mbn_deploy.check_apk.report import Finding, LibraryReport
from mbn_deploy.runtime.formats.flatbuffer import DamagedError

PAGES = {32: 4096, 64: 16384}  # bytes: the largest page of a phone that loads libraries of 32 and of 64 bits
MODERN_ABI = "arm64-v8a"
# The ABIs of the NDK: (e_machine in the ELF header, bits).
_MACHINES = {
    "arm64-v8a": (183, 64), "armeabi-v7a": (40, 32), "x86": (3, 32), "x86_64": (62, 64), "riscv64": (243, 64),
}  # fmt: skip
_LINK_AGAIN = (
    "build it with NDK r28 or later, or link it with -Wl,-z,max-page-size=16384; update it if it is a dependency "
    "(developer.android.com/guide/practices/page-sizes)"
)
_ZIP_AGAIN = (
    "build with Android Gradle plugin 8.5.1 or later, or run zipalign -f -P 16 4 IN.apk OUT.apk, then apksigner"
)


def check_libraries(layout: Layout) -> tuple[tuple[LibraryReport, ...], tuple[Finding, ...]]:
    """Report every native library and the problems found; raises `InputError` for damaged data."""
    reports, findings = [], []
    for entry in layout.archive.entries.values():
        abi = layout.abi(entry)
        if abi is None:
            continue
        report, problems = _check_library(layout, entry, abi)
        reports.append(report)
        findings += problems
    findings += _check_set(reports)
    if layout.config.small_pages and any(report.bits == 64 for report in reports):
        text = "tells the store to align native libraries to only 4 KB: phones with 16 KB pages cannot map them"
        findings.append(Finding("problem", CONFIG_NAME, text, "build with Android Gradle plugin 8.5.1 or later"))
    return tuple(reports), tuple(findings)


def _check_library(layout: Layout, entry: ZipInfo, abi: str) -> tuple[LibraryReport, list[Finding]]:
    report = LibraryReport(
        name=entry.filename,
        abi=abi,
        size=entry.file_size,
        # An app bundle does not say it of each library; `small_pages` is checked once for all.
        stored=is_stored(entry) if layout.kind == "apk" else None,
        alignment=layout.alignment(entry),
    )
    try:
        library = read_library(lambda start, length: layout.archive.part(entry, start, length))
    except DamagedError as error:
        text = f"is not a shared library that can be loaded: {error}"
        return report, [Finding("problem", report.name, text, "build the app again; was the file cut off?")]
    report = replace(report, bits=library.bits, page_size=library.page_size)
    return report, list(_findings(report, library))


def _findings(report: LibraryReport, library: Library) -> Iterator[Finding]:
    needed, name = PAGES[library.bits], report.name
    machine = _MACHINES.get(report.abi)
    if machine is None:
        yield Finding("note", name, f"lies in the folder {report.abi!r}, which no current phone reads")
    elif machine != (library.machine, library.bits):
        text = f"is for another processor than {report.abi} ({library.bits} bits, ELF machine {library.machine})"
        yield Finding("problem", name, text, f"replace it by the library that was built for {report.abi}")
    if library.page_size < needed:
        text = (
            f"its LOAD segments are laid out for pages of {_kilobytes(library.page_size)}: phones with pages of "
            f"{_kilobytes(needed)} do not load it"
        )
        yield Finding("problem", name, text, _LINK_AGAIN)
    if report.alignment is not None and report.alignment < needed:
        text = (
            f"begins at a multiple of only {report.alignment} bytes in the APK: phones with pages of "
            f"{_kilobytes(needed)} cannot map it"
        )
        yield Finding("problem", name, text, _ZIP_AGAIN)


def _check_set(reports: list[LibraryReport]) -> Iterator[Finding]:
    """Find what is missing: a phone takes the libraries of one folder, so each folder needs all of them."""
    by_abi: dict[str, set[str]] = {}
    for report in reports:
        by_abi.setdefault(report.abi, set()).add(PurePosixPath(report.name).name)
    if by_abi and MODERN_ABI not in by_abi:
        text = f"the app has native libraries, but none for {MODERN_ABI}, the processor of current phones"
        yield Finding(
            "note", "", text, f"build for {MODERN_ABI} as well, unless the app is only for emulators or old phones"
        )
    all_names = set().union(*by_abi.values())
    for abi, names in sorted(by_abi.items()):
        for name in sorted(all_names - names):
            text = f"exists for other processors, but not for {abi}: phones with that processor cannot load it"
            yield Finding("note", name, text, f"add it, or leave {abi} out of the app (ndk.abiFilters)")
    compressed = sum(report.stored is False for report in reports)
    if compressed:
        text = f"{compressed} compressed native libraries are unpacked at installation, which takes more storage"
        yield Finding("note", "", text, "packaging { jniLibs { useLegacyPackaging = false } } stores them uncompressed")


def _kilobytes(count: int) -> str:
    return f"{count >> 10} KB" if count % 1024 == 0 and count else f"{count} bytes"
