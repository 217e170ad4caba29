"""The settings for the store's APKs in the BundleConfig.pb of an app bundle (.aab).

How files lie in the bundle itself does not matter: all are compressed there. The field numbers are those of
bundletool's config.proto. Its patterns are matched against a file's path without the module's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mbn_deploy.runtime.formats.protobuf import messages, numbers, text, texts

CONFIG_NAME = "BundleConfig.pb"
_BUNDLETOOL, _OPTIMIZATIONS, _COMPRESSION = 1, 2, 3  # BundleConfig
_VERSION = 2  # Bundletool
_NATIVE_LIBRARIES, _ENABLED, _ALIGNMENT = 2, 1, 2  # Optimizations; UncompressNativeLibraries
_GLOBS, _ASSET_MODULES = 1, 2  # Compression
_ALIGNED_4K, _COMPRESSED = 1, 2  # PageAlignment; AssetModuleCompression
_GLOB_PIECE = re.compile(r"\*\*|\[[^]]*\]|.", re.DOTALL)


@dataclass(frozen=True)
class BundleConfig:
    """The settings that matter to models and native libraries.

    Attributes:
        bundletool: the version of bundletool that made the bundle.
        stored: glob patterns of the files that stay uncompressed.
        small_pages: whether native libraries are stored, but aligned to 4 KB only.
        packs_compressed: whether install-time asset packs are compressed.
    """

    bundletool: str = ""
    stored: tuple[str, ...] = ()
    small_pages: bool = False
    packs_compressed: bool = False

    def keeps_stored(self, path: str) -> bool:
        """Return whether the file at this path of an APK is left uncompressed."""
        return any(matches(pattern, path) for pattern in self.stored)


def read_config(data: bytes) -> BundleConfig:
    """Parse BundleConfig.pb; raises `DamagedError`."""
    view = memoryview(data)
    tools = _message(view, _BUNDLETOOL)
    compression = _message(view, _COMPRESSION)
    libraries = _message(_message(view, _OPTIMIZATIONS), _NATIVE_LIBRARIES)
    return BundleConfig(
        bundletool=text(tools, _VERSION),
        stored=tuple(texts(compression, _GLOBS)),
        small_pages=_last(libraries, _ENABLED) == 1 and _last(libraries, _ALIGNMENT) == _ALIGNED_4K,
        packs_compressed=_last(compression, _ASSET_MODULES) == _COMPRESSED,
    )


def _message(data: memoryview, field: int) -> memoryview:
    """Return the message in a field; several occurrences are merged, which joining their bytes does."""
    return memoryview(b"".join(messages(data, field)))


def _last(data: memoryview, field: int) -> int:
    return next(reversed(numbers(data, field)), 0)


def matches(pattern: str, path: str) -> bool:
    """Return whether a glob matches the whole path: `**`, `*` and `?` (not across `/`), `[...]`; all else is literal.

    Follows every position of the path that the pattern may have reached. A regular expression would track back, and
    for a few `**` and a long path take minutes.
    """
    reached = {0}
    for piece in _GLOB_PIECE.findall(pattern):
        if piece in ("*", "**"):
            for at, character in enumerate(path):
                if at in reached and (piece == "**" or character != "/"):
                    reached.add(at + 1)
        else:
            reached = {at + 1 for at in reached if at < len(path) and _fits(piece, path[at])}
    return len(path) in reached


def _fits(piece: str, character: str) -> bool:
    if piece == "?":
        return character != "/"
    return character in piece[1:-1] if len(piece) > 1 else character == piece
