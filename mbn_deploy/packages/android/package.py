"""A package for Android apps, made from a bundle.

DIR/                        and the same as DIR.tar.gz beside it
  kind `module`: a Gradle library module
    build.gradle.kts  consumer-rules.pro  src/main/AndroidManifest.xml
    src/main/assets/FOLDER/     models, labels.txt, manifest.json
  kind `aar`:                   NAME.aar, the same assets as a finished library
  kind `asset-pack`, `ai-pack`: PACK/, a Gradle module for Google Play's delivery, with the same assets
  all kinds:
    src/main/kotlin/            one class that opens, feeds and reads the models
    src/androidTest/            golden vectors, and a test that replays them on the phone
    README.md  package.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.manifest import LABELS_NAME, MANIFEST_NAME, ModelFile
from mbn_deploy.packages.android.aar import aar
from mbn_deploy.packages.android.choice import (
    AndroidRuntime,
    asset_name,
    chosen_files,
    download_warnings,
    runtime_named,
)
from mbn_deploy.packages.android.code import AndroidCode
from mbn_deploy.packages.android.golden import golden_assets
from mbn_deploy.packages.android.names import class_name, class_name_of, pack_name, package_name, snake_case
from mbn_deploy.packages.package import check_package_target, write_package
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.version import __version__

KINDS = ("module", "aar", "asset-pack", "ai-pack")
PACKS = ("asset-pack", "ai-pack")
DELIVERIES = ("install-time", "fast-follow", "on-demand")
NEWEST_SDK = 99  # above any API level: a typing mistake


@dataclass(frozen=True)
class AndroidOptions:
    """What the package is to be; None where the kind, the runtime or the model's name decides."""

    kind: str = "module"
    runtime: str = "litert"
    precisions: Sequence[str] = ()
    package: str | None = None
    class_name: str | None = None
    min_sdk: int | None = None
    pack: str | None = None
    delivery: str | None = None


@dataclass(frozen=True)
class AndroidPackage:
    """What was made. `asset_bytes` is what the app's download grows by, before the store compresses it."""

    folder: Path
    archive: Path
    kind: str
    runtime: AndroidRuntime
    files: tuple[ModelFile, ...]
    package: str
    class_name: str
    min_sdk: int | None
    pack: str | None
    delivery: str | None
    asset_bytes: int
    golden: bool
    warnings: tuple[str, ...] = field(repr=False)
    written: tuple[str, ...] = field(repr=False)


def package_android(
    bundle: str | Path, folder: str | Path, options: AndroidOptions | None = None, *, overwrite: bool = False
) -> AndroidPackage:
    """Make the package `folder` and its archive beside it from a bundle.

    Args:
        bundle: a folder that `export` made.
        folder: where to; appears whole or not at all.
        options: what it is to be; by default a library module with LiteRT.
        overwrite: replace a package that stands there.

    Raises:
        InputError: a damaged bundle, a file that no app can hold, a disk that is full.
        UsageError: a name that Android or a language forbids, an option that this kind has no use for, a file
            that the runtime cannot use, something in the way at `folder`.
    """
    target, asked = Path(folder), options or AndroidOptions()
    runtime = _checked(asked)
    check_package_target(target, overwrite=overwrite)
    opened = Bundle.read(bundle)
    name = class_name(asked.class_name or class_name_of(opened.manifest.model))
    where = snake_case(name)
    package = package_name(asked.package or f"com.example.{where}")
    files = chosen_files(opened, runtime, asked.precisions)
    code = AndroidCode(runtime, package, name, where, opened.manifest, files)
    assets = {f"{where}/{path}": data for path, data in _assets(opened, files).items()}
    golden = golden_assets(opened, files)
    laid = _Layout(asked, code, assets, pack_name(asked.pack or where), runtime)
    tested = {f"{where}/{path}": data for path, data in golden.items()}
    if golden and laid.is_later:
        tested |= assets
    contents = laid.files() | code.sources() | (code.tests(own_assets=laid.is_later) if golden else {})
    contents |= {f"src/androidTest/assets/{path}": data for path, data in tested.items()}
    archive = write_package(target, contents, laid.facts(), overwrite=overwrite)
    return AndroidPackage(
        target,
        archive,
        asked.kind,
        runtime,
        files,
        package,
        name,
        laid.min_sdk,
        laid.pack_or_none,
        laid.delivery_or_none,
        sum(map(len, assets.values())),
        bool(golden),
        download_warnings(opened, files),
        tuple(sorted(contents)),
    )


def _checked(asked: AndroidOptions) -> AndroidRuntime:
    """The runtime; raises for words that are unknown and options that the kind has no use for."""
    runtime = runtime_named(asked.runtime)
    if asked.kind not in KINDS:
        raise UnknownNameError("kind", asked.kind, KINDS)
    if asked.kind not in PACKS:
        for option, value in (("--pack-name", asked.pack), ("--delivery", asked.delivery)):
            if value is not None:
                raise UsageError(f"{option} is of packs: --kind {' or '.join(PACKS)}")
    elif asked.min_sdk is not None:
        raise UsageError(f"--min-sdk: a pack has none of its own; the app's counts, at least {runtime.min_sdk}")
    if asked.delivery is not None and asked.delivery not in DELIVERIES:
        raise UnknownNameError("delivery", asked.delivery, DELIVERIES)
    if asked.min_sdk is not None and not runtime.min_sdk <= asked.min_sdk <= NEWEST_SDK:
        raise UsageError(f"--min-sdk {asked.min_sdk}: {runtime.name} runs from API level {runtime.min_sdk} on")
    return runtime


def _assets(bundle: Bundle, files: Sequence[ModelFile]) -> dict[str, bytes]:
    """Models, labels, and a manifest of these alone. Without labels a class is called by its index.

    What was measured and how it was made stays in the bundle: nobody asks for it on a phone.
    """
    renamed = tuple(replace(entry, path=asset_name(entry)) for entry in files)
    manifest = replace(
        bundle.manifest, files=renamed, labels=bundle.manifest.labels and LABELS_NAME, golden=None, golden_sha256=None,
        source={}, quantization={}, metrics={}, threads=(),
    )  # fmt: skip
    named = bundle.manifest.labels
    indices = "".join(f"{index}\n" for index in range(bundle.manifest.classes))
    labels = indices.encode() if named is None else read_file(bundle.folder / named)
    models = {asset_name(entry): check_file(bundle.folder, entry) for entry in files}
    return models | {LABELS_NAME: labels, MANIFEST_NAME: manifest.to_json().encode()}


@dataclass(frozen=True)
class _Layout:
    """Where things lie in a package of a kind, and what it says of itself."""

    asked: AndroidOptions
    code: AndroidCode
    assets: dict[str, bytes]
    pack: str
    runtime: AndroidRuntime

    @property
    def min_sdk(self) -> int | None:
        return None if self.asked.kind in PACKS else self.asked.min_sdk or self.runtime.min_sdk

    @property
    def pack_or_none(self) -> str | None:
        return self.pack if self.asked.kind in PACKS else None

    @property
    def delivery_or_none(self) -> str | None:
        return (self.asked.delivery or DELIVERIES[0]) if self.asked.kind in PACKS else None

    @property
    def is_later(self) -> bool:
        """Whether the assets come after the installation: no test of the app can rely on them."""
        return self.delivery_or_none in DELIVERIES[1:]

    def files(self) -> dict[str, bytes]:
        """All but the sources and the tests."""
        kind, code, least = self.asked.kind, self.code, self.asked.min_sdk or self.runtime.min_sdk
        if kind == "module":
            made = {f"src/main/assets/{path}": data for path, data in self.assets.items()} | code.module(least)
        elif kind == "aar":
            made = {f"{code.folder}.aar": aar(code.aar_manifest(least), self.assets, code.rules())}
        else:
            made = {f"{self.pack}/src/main/assets/{path}": data for path, data in self.assets.items()}
            made[f"{self.pack}/build.gradle.kts"] = code.pack(self.pack, kind, self.delivery_or_none or "")
        return made | {"README.md": self._readme()}

    def _readme(self) -> bytes:
        """The part of the kind, then the part that all kinds share."""
        lines = [f'implementation("{coordinate}")' for coordinate in self.runtime.dependencies]
        usage = "usage-later.md" if self.is_later else "usage.md"
        library = {"asset-pack": "asset-delivery:2.3.0", "ai-pack": "ai-delivery:0.1.1-alpha01"}.get(
            self.asked.kind, ""
        )
        manager = {"asset-pack": "AssetPack", "ai-pack": "AiPack"}.get(self.asked.kind, "")
        values = {
            "pack": self.pack,
            "delivery": self.delivery_or_none or "",
            "dependencies": f"\n{' ' * 11}".join(lines),
            "library": library,
            "manager": manager,
            "open": "context, " if self.runtime.name == "mediapipe" else "",
            "least": str(self.asked.min_sdk or self.runtime.min_sdk),
            "runtime": self.runtime.name,
        }
        parts = (f"{self.asked.kind if self.asked.kind not in PACKS else 'pack'}.md", usage, "golden.md")
        return b"\n".join(self.code.readme(part, **values) for part in parts)

    def facts(self) -> dict[str, object]:
        """What package.json says."""
        return {
            "kind": f"mbn-deploy android {self.asked.kind}",
            "mbn_deploy": __version__,
            "model": self.code.manifest.model,
            "runtime": self.runtime.name,
            "package": self.code.package,
            "class": self.code.name,
            "min_sdk": self.min_sdk,
            "pack": self.pack_or_none,
            "delivery": self.delivery_or_none,
            "models": {asset_name(entry): entry.sha256 for entry in self.code.files},
        }
