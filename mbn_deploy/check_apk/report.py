"""The result of `check_apk`: models, native libraries and findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mbn_deploy.answers import Answers

ArchiveKind = Literal["apk", "aab", "aar"]
Level = Literal["problem", "note"]
Match = Literal["equal", "differs", "unknown"]


@dataclass(frozen=True)
class Finding:
    """A `problem`, which breaks the app on a phone, or a `note`, which is worth knowing.

    `entry` is the file that it is about, empty for the whole archive; `text` continues a sentence that begins with that
    file; `advice` says what to do, if anything.
    """

    level: Level
    entry: str
    text: str
    advice: str = ""


@dataclass(frozen=True)
class ModelReport:
    """A model in the archive.

    Attributes:
        name: its path; a model inside a .task file has the path of that file, `!` and its own.
        kind: `tflite`, `onnx`, `ort` or `task`.
        size: bytes, uncompressed.
        packed: bytes in the archive.
        stored: whether it lies uncompressed on a phone; None if the build of an app decides that.
        alignment: the largest power of two up to 16384 that divides its position in the APK; None if it is not mapped
            there.
        sha256: its checksum.
        matched: whether a manifest has a file with its sha256 (`equal`), only one with its name (`differs`) or neither
            (`unknown`); None without a manifest.
        input: types and shapes of its inputs, such as `uint8 1×224×224×3`; None if they were not read.
        output: the same of its outputs.
        classes: how many numbers its only output has; None if it has several outputs.
        answers: what they mean, as its own description says; classes without one.
        labels: how many labels are inside the file; None if there are none.
        metadata: the names of the metadata inside the file.
    """

    name: str
    kind: str
    size: int
    packed: int
    stored: bool | None
    alignment: int | None
    sha256: str
    matched: Match | None = None
    input: str | None = None
    output: str | None = None
    classes: int | None = None
    answers: Answers = field(default_factory=Answers)
    labels: int | None = None
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True)
class LibraryReport:
    """A native library; `stored` and `alignment` are as in `ModelReport`.

    `page_size` is the largest page, in bytes, that its LOAD segments are laid out for. `bits` and `page_size` are None
    for a damaged library.
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
    """All models, native libraries and findings of the archive at `path`, which has `entries` files."""

    path: str
    kind: ArchiveKind
    entries: int
    models: tuple[ModelReport, ...]
    libraries: tuple[LibraryReport, ...]
    findings: tuple[Finding, ...]

    @property
    def abis(self) -> tuple[str, ...]:
        """The processors (ABIs) that there are native libraries for, sorted."""
        return tuple(sorted({library.abi for library in self.libraries}))

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that break the app on a phone."""
        return tuple(finding for finding in self.findings if finding.level == "problem")

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.problems
