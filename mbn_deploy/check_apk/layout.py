"""Where things lie in the three kinds of Android archives, and how they will lie on a phone.

An APK is mapped as it is. App bundles (.aab) are made into APKs by the store, as their BundleConfig.pb says;
libraries (.aar) are unpacked by the build of the app that uses them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mbn_deploy.check_apk.aab_config import CONFIG_NAME, BundleConfig, read_config
from mbn_deploy.check_apk.archive import ZipArchive
from mbn_deploy.check_apk.directory import ZipEntry
from mbn_deploy.check_apk.report import ArchiveKind
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.formats.flatbuffer import damage_named

_MANIFEST = "AndroidManifest.xml"
_BINARY_XML = b"\x03\x00"  # RES_XML_TYPE of AOSP's ResourceTypes.h: only APKs have their manifest in this form
_SMALL_FILE = 2**24  # bytes of a manifest or a configuration that are read
_LIBRARIES = {
    "apk": re.compile(r"lib/([^/]+)/[^/]+\.so"),
    "aab": re.compile(r"[^/]+/lib/([^/]+)/[^/]+\.so"),
    "aar": re.compile(r"jni/([^/]+)/[^/]+\.so"),
}
# No models lie here; the store's metadata and signatures do.
_SKIPPED = re.compile(r"META-INF/.*|BUNDLE-METADATA/.*|.*\.dex|.*/|AndroidManifest\.xml|resources\.(arsc|pb)")


@dataclass(frozen=True)
class Layout:
    """An open archive of a known kind."""

    archive: ZipArchive
    kind: ArchiveKind
    config: BundleConfig
    packs: frozenset[str]  # modules of an app bundle that are asset packs and stay uncompressed

    def abi(self, entry: ZipEntry) -> str | None:
        """The folder of a native library, which names the processor; None for other files."""
        found = _LIBRARIES[self.kind].fullmatch(entry.name)
        return None if found is None else found[1]

    def may_be_model(self, entry: ZipEntry) -> bool:
        """Whether an app could open the file as a model."""
        return entry.size > 0 and self.abi(entry) is None and not _SKIPPED.fullmatch(entry.name)

    def stored(self, entry: ZipEntry) -> bool | None:
        """Whether it will lie uncompressed on a phone; None where that is decided later."""
        if self.kind == "apk":
            return entry.stored
        if self.kind == "aar":
            return None
        module, _, path = entry.name.partition("/")
        return self.config.keeps_stored(path) or (module in self.packs and path.startswith("assets/"))

    def alignment(self, entry: ZipEntry) -> int | None:
        """What divides its place in the file, for those that a phone maps."""
        return self.archive.alignment(entry) if self.kind == "apk" and entry.stored else None


def layout_of(archive: ZipArchive) -> Layout:
    """The archive with its kind, told by content; raises `InputError` for what is no Android archive."""
    entries, where = archive.entries, archive.where
    if CONFIG_NAME in entries:
        with damage_named(f"{where}: {CONFIG_NAME}", "bundletool"):
            config = read_config(archive.read(entries[CONFIG_NAME], _SMALL_FILE))
        return Layout(archive, "aab", config, _packs(archive, config))
    if _MANIFEST in entries:
        binary = archive.part(entries[_MANIFEST], 0, 2) == _BINARY_XML
        return Layout(archive, "apk" if binary else "aar", BundleConfig(), frozenset())
    if any(name.endswith(".apk") for name in entries):
        raise InputError(f"{where}: an archive of APKs; unpack it and check each of them")
    raise InputError(f"{where}: a zip archive, but no .apk, .aab or .aar: it has neither {_MANIFEST} nor {CONFIG_NAME}")


def _packs(archive: ZipArchive, config: BundleConfig) -> frozenset[str]:
    """Asset packs whose files bundletool leaves uncompressed: all, but install-time ones if the bundle says so.

    The manifests are protobuf XML; type and delivery stand in them as plain text.
    """
    found = set()
    for name, entry in archive.entries.items():
        module, _, rest = name.partition("/")
        if rest != f"manifest/{_MANIFEST}":
            continue
        text = archive.read(entry, _SMALL_FILE)
        pack = b"asset-pack" in text or b"ai-pack" in text
        if pack and not (config.packs_compressed and b"install-time" in text):
            found.add(module)
    return frozenset(found)
