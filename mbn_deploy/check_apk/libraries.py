"""Native libraries in an Android archive: the processor, and pages of 16 KB.

Devices with Android 15 and later may have memory pages of 16 KB; 64-bit libraries must be laid out for them, and
lie in the APK accordingly if they are not compressed there, or the app does not start
(developer.android.com/guide/practices/page-sizes). 32-bit ones go on with 4 KB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from mbn_deploy.check_apk.aab_config import CONFIG_NAME
from mbn_deploy.check_apk.directory import ZipEntry
from mbn_deploy.check_apk.elf import Library, read_library
from mbn_deploy.check_apk.layout import Layout
from mbn_deploy.check_apk.report import Finding, LibraryReport
from mbn_deploy.runtime.formats.flatbuffer import DamagedError

PAGES = {32: 4096, 64: 16384}  # by bits of the library: the largest page of a phone that loads it
MODERN_ABI = "arm64-v8a"
# ABIs of the NDK: (e_machine of ELF, bits).
_MACHINES = {
    "arm64-v8a": (183, 64), "armeabi-v7a": (40, 32), "x86": (3, 32), "x86_64": (62, 64), "riscv64": (243, 64),
}  # fmt: skip
_LINK_AGAIN = (
    "build it with NDK r28 or later, or link with -Wl,-z,max-page-size=16384; of a dependency take a newer version "
    "(developer.android.com/guide/practices/page-sizes)"
)
_ZIP_AGAIN = "Android Gradle plugin 8.5.1 or later, or: zipalign -f -P 16 4 IN.apk OUT.apk, and then apksigner"


def check_libraries(layout: Layout) -> tuple[tuple[LibraryReport, ...], tuple[Finding, ...]]:
    """Every native library, and what is wrong with them. Raises `InputError` where data cannot be read."""
    reports, findings = [], []
    for entry in layout.archive.entries.values():
        abi = layout.abi(entry)
        if abi is None:
            continue
        report, found = _check_library(layout, entry, abi)
        reports.append(report)
        findings += found
    findings += _together(reports)
    if layout.config.small_pages and any(report.bits == 64 for report in reports):
        text = "tells the store to align native libraries to 4 KB only: devices with 16 KB pages cannot map them"
        findings.append(Finding("problem", CONFIG_NAME, text, "build with Android Gradle plugin 8.5.1 or later"))
    return tuple(reports), tuple(findings)


def _check_library(layout: Layout, entry: ZipEntry, abi: str) -> tuple[LibraryReport, list[Finding]]:
    # What Gradle does with libraries of an app bundle is not told by the file: small_pages is checked as a whole.
    stored = entry.stored if layout.kind == "apk" else None
    alignment = layout.alignment(entry)
    try:
        library = read_library(lambda start, length: layout.archive.part(entry, start, length))
    except DamagedError as error:
        text = f"is no shared library that can be loaded: {error}"
        report = LibraryReport(entry.name, abi, entry.size, stored, alignment)
        return report, [Finding("problem", entry.name, text, "build the app again; was the file cut off?")]
    report = LibraryReport(entry.name, abi, entry.size, stored, alignment, library.bits, library.page_size)
    return report, list(_findings(report, library))


def _findings(report: LibraryReport, library: Library) -> Iterator[Finding]:
    needed, name = PAGES[library.bits], report.name
    machine = _MACHINES.get(report.abi)
    if machine is None:
        yield Finding("note", name, f"lies in a folder {report.abi!r} that no current phone looks into")
    elif machine != (library.machine, library.bits):
        text = f"is for another processor than {report.abi} ({library.bits} bits, ELF machine {library.machine})"
        yield Finding("problem", name, text, f"put the library that was built for {report.abi} there")
    if library.page_size < needed:
        text = (
            f"its LOAD segments are laid out for pages of {_kilobytes(library.page_size)}: devices with pages of "
            f"{_kilobytes(needed)} do not load it"
        )
        yield Finding("problem", name, text, _LINK_AGAIN)
    if report.alignment is not None and report.alignment < needed:
        text = (
            f"is stored in the APK at a place that is a multiple of {report.alignment} only: devices with pages of "
            f"{_kilobytes(needed)} cannot map it"
        )
        yield Finding("problem", name, text, _ZIP_AGAIN)


def _together(reports: list[LibraryReport]) -> Iterator[Finding]:
    """What the libraries lack as a set: a phone takes one folder, and that must have all of them."""
    by_abi: dict[str, set[str]] = {}
    for report in reports:
        by_abi.setdefault(report.abi, set()).add(PurePosixPath(report.name).name)
    if by_abi and MODERN_ABI not in by_abi:
        text = f"it has native libraries, but none for {MODERN_ABI}, which phones of today have"
        yield Finding("note", "", text, "build for it, too, unless the app is for emulators or old phones only")
    every = set().union(*by_abi.values())
    for abi, names in sorted(by_abi.items()):
        for name in sorted(every - names):
            text = f"is there for other processors, but not for {abi}: phones of this kind fail to load it"
            yield Finding("note", name, text, f"add it, or leave {abi} out (ndk.abiFilters)")
    packed = sum(report.stored is False for report in reports)
    if packed:
        text = (
            f"{packed} native libraries are compressed: they are unpacked when the app is installed, and take more room"
        )
        yield Finding("note", "", text, "packaging { jniLibs { useLegacyPackaging = false } } stores them")


def _kilobytes(count: int) -> str:
    return f"{count >> 10} KB" if count % 1024 == 0 and count else f"{count} bytes"
