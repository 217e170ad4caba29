"""What an app bundle (.aab) tells the store to do when it makes APKs of it: BundleConfig.pb.

How files lie in the bundle itself says nothing: all are compressed there. Field numbers, and how patterns are
matched, are those of bundletool's config.proto; patterns are matched against paths without the module's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from mbn_deploy.runtime.formats.protobuf import messages, numbers, text, texts

CONFIG_NAME = "BundleConfig.pb"
_BUNDLETOOL, _OPTIMIZATIONS, _COMPRESSION = 1, 2, 3  # BundleConfig
_VERSION = 2  # Bundletool
_NATIVE_LIBRARIES, _ENABLED, _ALIGNMENT = 2, 1, 2  # Optimizations; UncompressNativeLibraries
_GLOBS, _ASSET_MODULES = 1, 2  # Compression
_ALIGNED_4K, _COMPRESSED = 1, 2  # PageAlignment; AssetModuleCompression


@dataclass(frozen=True)
class BundleConfig:
    """What matters to models and libraries.

    `stored` are the patterns of files that stay uncompressed; `small_pages` is true if native libraries are
    stored and aligned to 4 KB only; `packs_compressed` if install-time asset packs are compressed.
    """

    bundletool: str = ""
    stored: tuple[str, ...] = ()
    small_pages: bool = False
    packs_compressed: bool = False

    def keeps_stored(self, path: str) -> bool:
        """Whether a file at this path of an APK is left uncompressed."""
        return any(matches(pattern, path) for pattern in self.stored)


def read_config(data: bytes) -> BundleConfig:
    """Parse BundleConfig.pb; raises `DamagedError`."""
    view = memoryview(data)
    tools = _joined(view, _BUNDLETOOL)
    compression = _joined(view, _COMPRESSION)
    libraries = _joined(_joined(view, _OPTIMIZATIONS), _NATIVE_LIBRARIES)
    return BundleConfig(
        bundletool=text(tools, _VERSION),
        stored=tuple(texts(compression, _GLOBS)),
        small_pages=_last(libraries, _ENABLED) == 1 and _last(libraries, _ALIGNMENT) == _ALIGNED_4K,
        packs_compressed=_last(compression, _ASSET_MODULES) == _COMPRESSED,
    )


def _joined(data: memoryview, field: int) -> memoryview:
    """A message; parts of it are one when they are put behind each other."""
    return memoryview(b"".join(messages(data, field)))


def _last(data: memoryview, field: int) -> int:
    return next(reversed(numbers(data, field)), 0)


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern of java.nio's globs fits the path: `**`, `*`, `?` and `[...]`; all else is itself.

    All places of the pattern that the path may have reached are kept, so that no pattern takes long.
    """
    tokens = _tokens(pattern)
    places = _passing(tokens, {0})
    for character in path:
        places = _passing(tokens, {_next(tokens, at, character) for at in places} - {-1})
        if not places:
            return False
    return len(tokens) in places


def _passing(tokens: tuple[str, ...], places: set[int]) -> set[int]:
    """The places, and those behind stars that stand for nothing."""
    found = set(places)
    for at in places:
        while at < len(tokens) and tokens[at] in ("*", "**"):
            at += 1  # noqa: PLW2901
            found.add(at)
    return found


def _next(tokens: tuple[str, ...], at: int, character: str) -> int:
    """Where the pattern stands after the character; -1 if it does not fit."""
    if at == len(tokens):
        return -1
    part = tokens[at]
    if part == "**" or (part == "*" and character != "/"):
        return at
    if part == "*":
        return -1
    if part == "?":
        return at + 1 if character != "/" else -1
    fits = character in part[1:-1] if len(part) > 1 else character == part
    return at + 1 if fits else -1


@cache
def _tokens(pattern: str) -> tuple[str, ...]:
    found: list[str] = []
    at = 0
    while at < len(pattern):
        end = at + 1
        if pattern[at] == "*" and pattern[at : at + 2] == "**":
            end = at + 2
        elif pattern[at] == "[" and "]" in pattern[at:]:
            end = pattern.index("]", at) + 1
        found.append(pattern[at:end])
        at = end
    return tuple(found)
