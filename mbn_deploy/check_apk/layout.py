"""The layout of files in the three kinds of Android archives, and on a phone.

A phone maps an APK as it is. The store makes APKs of an app bundle (.aab), as its BundleConfig.pb says. The build of
the app that uses a library (.aar) unpacks it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from zipfile import ZipInfo

from mbn_deploy.check_apk.aab_config import CONFIG_NAME, BundleConfig, read_config
from mbn_deploy.check_apk.archive import ZipArchive, is_stored
from mbn_deploy.check_apk.report import ArchiveKind
from mbn_deploy.errors import InputError
from mbn_deploy.runtime.formats.flatbuffer import damage_named

_MANIFEST = "AndroidManifest.xml"
_BINARY_XML = b"\x03\x00"  # RES_XML_TYPE of AOSP's ResourceTypes.h: only APKs have their manifest in this form
_SMALL_FILE = 2**24  # bytes: larger manifests and configurations are refused
_LIBRARIES = {
    "apk": re.compile(r"lib/([^/]+)/[^/]+\.so"),
    "aab": re.compile(r"[^/]+/lib/([^/]+)/[^/]+\.so"),
    "aar": re.compile(r"jni/([^/]+)/[^/]+\.so"),
}
# Signatures, the store's metadata, code and resources lie here, but no models.
_SKIPPED = re.compile(r"META-INF/.*|BUNDLE-METADATA/.*|.*\.dex|.*/|AndroidManifest\.xml|resources\.(arsc|pb)")


@dataclass(frozen=True)
class Layout:
    """An open archive of a known kind.

    `config` is an app bundle's; `stored_packs` are its modules that are asset packs and stay uncompressed.
    """

    archive: ZipArchive
    kind: ArchiveKind
    config: BundleConfig = field(default_factory=BundleConfig)
    stored_packs: frozenset[str] = frozenset()

    def abi(self, entry: ZipInfo) -> str | None:
        """Return the folder of a native library, which names its processor; None for other files."""
        match = _LIBRARIES[self.kind].fullmatch(entry.filename)
        return None if match is None else match[1]

    def may_be_model(self, entry: ZipInfo) -> bool:
        """Return whether an app could open the file as a model."""
        return entry.file_size > 0 and self.abi(entry) is None and not _SKIPPED.fullmatch(entry.filename)

    def stored(self, entry: ZipInfo) -> bool | None:
        """Return whether a file will lie uncompressed on a phone; None if a later build decides that."""
        if self.kind == "apk":
            return is_stored(entry)
        if self.kind == "aar":
            return None
        module, _, path = entry.filename.partition("/")
        return self.config.keeps_stored(path) or (module in self.stored_packs and path.startswith("assets/"))

    def alignment(self, entry: ZipInfo) -> int | None:
        """Return the alignment of a file that a phone maps where it lies; None for all others."""
        return self.archive.alignment(entry) if self.kind == "apk" and is_stored(entry) else None


def layout_of(archive: ZipArchive) -> Layout:
    """Tell the kind of an archive from its content; raises `InputError` for what is not an Android archive."""
    entries, where = archive.entries, archive.where
    if CONFIG_NAME in entries:
        with damage_named(f"{where}: {CONFIG_NAME}", "bundletool"):
            config = read_config(archive.read(entries[CONFIG_NAME], _SMALL_FILE))
        return Layout(archive, "aab", config, _stored_packs(archive, config))
    if _MANIFEST in entries:
        binary = archive.part(entries[_MANIFEST], 0, 2) == _BINARY_XML
        return Layout(archive, "apk" if binary else "aar")
    if any(name.endswith(".apk") for name in entries):
        raise InputError(f"{where}: an archive of APKs; unpack it and check each of them")
    raise InputError(
        f"{where}: a zip archive, but not an .apk, .aab or .aar: it has neither {_MANIFEST} nor {CONFIG_NAME}"
    )


def _stored_packs(archive: ZipArchive, config: BundleConfig) -> frozenset[str]:
    """Return the asset packs that bundletool leaves uncompressed: all, except install-time ones if the bundle says so.

    The manifests are XML in protobuf's form; type and delivery stand in them as plain text.
    """
    packs = set()
    for name, entry in archive.entries.items():
        module, _, rest = name.partition("/")
        if rest != f"manifest/{_MANIFEST}":
            continue
        text = archive.read(entry, _SMALL_FILE)
        is_pack = b"asset-pack" in text or b"ai-pack" in text
        if is_pack and not (config.packs_compressed and b"install-time" in text):
            packs.add(module)
    return frozenset(packs)
