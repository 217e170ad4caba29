"""What `check_apk` finds in an Android archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ArchiveKind = Literal["apk", "aab", "aar"]
Level = Literal["problem", "note"]
Matched = Literal["equal", "differs", "unknown"]


@dataclass(frozen=True)
class Finding:
    """A `problem` breaks on a phone; a `note` is worth knowing. `advice` says what to do, if anything."""

    level: Level
    entry: str
    text: str
    advice: str = ""


@dataclass(frozen=True)
class ModelReport:
    """A model in the archive; sizes are bytes.

    `name` is its path, with `!` before that of a model in a .task file. `stored` is whether it lies uncompressed
    on a phone, None where the build of an app decides that; `alignment` the largest power of two up to 16384
    that divides its place in the APK, None where it has none there. `matched` says how it compares to the file of
    a manifest: one with its sha256, one with its name only, none; None without a manifest. `input` and
    `output` are types and shapes as text, None where they were not read.
    """

    name: str
    kind: str
    size: int
    packed: int
    stored: bool | None
    alignment: int | None
    sha256: str
    matched: Matched | None = None
    input: str | None = None
    output: str | None = None
    classes: int | None = None
    labels: int | None = None
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True)
class LibraryReport:
    """A native library; `page_size` is the largest page, in bytes, that its LOAD segments are laid out for.

    `stored` and `alignment` as of a model. `page_size` and `bits` are None for one that is damaged.
    """

    name: str
    abi: str
    size: int
    stored: bool | None
    alignment: int | None
    bits: int | None = None
    page_size: int | None = None


@dataclass(frozen=True)
class ApkReport:
    """Everything that was found in the archive at `path`."""

    path: str
    kind: ArchiveKind
    entries: int
    models: tuple[ModelReport, ...]
    libraries: tuple[LibraryReport, ...]
    findings: tuple[Finding, ...]

    @property
    def abis(self) -> tuple[str, ...]:
        """The kinds of processors that there are native libraries for."""
        return tuple(sorted({library.abi for library in self.libraries}))

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What breaks on a phone."""
        return tuple(finding for finding in self.findings if finding.level == "problem")

    @property
    def passed(self) -> bool:
        """Whether nothing would break."""
        return not self.problems
