"""Write a package for Android apps from a bundle.

DIR/                            and the same as DIR.tar.gz beside it
  kind `module`:                a Gradle library module
    build.gradle.kts  consumer-rules.pro  src/main/AndroidManifest.xml
    src/main/assets/FOLDER/     models, labels.txt, manifest.json
  kind `aar`:                   FOLDER.aar, a finished library with the same assets
  kind `asset-pack`, `ai-pack`: PACK/, a Gradle module for Google Play's delivery with the same assets
  all kinds:
    src/main/kotlin/            one class that opens, feeds and reads the models
    src/androidTest/            golden vectors, and a test that replays them on the phone
    README.md  package.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.manifest import LABELS_NAME, MANIFEST_NAME, ModelFile
from mbn_deploy.packages.android.aar import aar
from mbn_deploy.packages.android.choice import asset_name, choose_files, download_warnings
from mbn_deploy.packages.android.code import PACK_BLOCKS, AndroidCode
from mbn_deploy.packages.android.names import class_name, pack_name, package_name, snake_case
from mbn_deploy.packages.android.runtimes import AndroidRuntime, runtime_named
from mbn_deploy.packages.contents import answer_names
from mbn_deploy.packages.package import check_package_target, write_package
from mbn_deploy.packages.phone import class_name_of, golden_files
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.version import __version__

PACKS = tuple(PACK_BLOCKS)
KINDS = ("module", "aar", *PACKS)
DELIVERIES = ("install-time", "fast-follow", "on-demand")
NEWEST_SDK = 99  # larger than any API level: a typing mistake
# By kind of pack: Google Play's library that fetches packs at run time, and its class that says where they lie.
_PLAY_LIBRARIES = {
    "asset-pack": ("asset-delivery:2.3.0", "AssetPackManager"),
    "ai-pack": ("ai-delivery:0.1.1-alpha01", "AiPackManager"),
}


@dataclass(frozen=True)
class AndroidOptions:
    """The options of `bundle android`; where one is None, the kind, the runtime or the model's name decides."""

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
    """A package that was written, with its files below `folder`.

    `asset_bytes` is how much the app's download grows, before the store compresses it. `min_sdk` is None for packs,
    `pack` and `delivery` are None for other kinds; `golden` says whether there are golden vectors and their test.
    """

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


def write_android_package(
    bundle: str | Path, folder: str | Path, options: AndroidOptions | None = None, *, overwrite: bool = False
) -> AndroidPackage:
    """Write a package to `folder`, and its archive beside it.

    Args:
        bundle: a folder that `export` made.
        folder: the package's folder; it appears complete or not at all.
        options: the kind of package, the runtime, names; by default a library module with LiteRT.
        overwrite: replace a package that is there.

    Raises:
        InputError: a damaged bundle, a file that an app cannot hold, a full disk.
        UsageError: a name that Android or a language forbids, an option that does not apply to this kind, a file that
            the runtime cannot use, something in the way at `folder`.
    """
    target, options = Path(folder), options or AndroidOptions()
    runtime = _check_options(options)
    check_package_target(target, overwrite=overwrite)
    source = Bundle.read(bundle)
    name = class_name(options.class_name or class_name_of(source.manifest.model))
    asset_folder = snake_case(name)
    code = AndroidCode(
        runtime=runtime,
        package=package_name(options.package or f"com.example.{asset_folder}"),
        name=name,
        folder=asset_folder,
        manifest=source.manifest,
        files=choose_files(source, runtime, options.precisions),
    )
    golden = golden_files(source, code.files)
    contents = _Contents(
        options=options,
        code=code,
        assets=_assets(source, code.files),
        golden={f"{asset_name(e)}.golden": golden[e.path] for e in code.files if e.path in golden},
        pack=pack_name(options.pack or asset_folder),
    )
    files = contents.files()
    archive = write_package(target, files, contents.description(), overwrite=overwrite)
    return AndroidPackage(
        folder=target,
        archive=archive,
        kind=options.kind,
        runtime=runtime,
        files=code.files,
        package=code.package,
        class_name=name,
        min_sdk=None if contents.is_pack else contents.min_sdk,
        pack=contents.pack if contents.is_pack else None,
        delivery=contents.delivery if contents.is_pack else None,
        asset_bytes=sum(map(len, contents.assets.values())),
        golden=bool(contents.golden),
        warnings=download_warnings(source, code.files),
        written=tuple(sorted(files)),
    )


def _check_options(options: AndroidOptions) -> AndroidRuntime:
    """Return the runtime; raises `UnknownNameError` for unknown words, `UsageError` for options that do not apply."""
    runtime = runtime_named(options.runtime)
    if options.kind not in KINDS:
        raise UnknownNameError("kind", options.kind, KINDS)
    if options.kind not in PACKS:
        for option, value in (("--pack-name", options.pack), ("--delivery", options.delivery)):
            if value is not None:
                raise UsageError(f"{option} applies only to packs: --kind {' or '.join(PACKS)}")
    elif options.min_sdk is not None:
        raise UsageError(
            f"--min-sdk does not apply to packs: the app's own counts; it must be {runtime.min_sdk} or more"
        )
    if options.delivery is not None and options.delivery not in DELIVERIES:
        raise UnknownNameError("delivery", options.delivery, DELIVERIES)
    if options.min_sdk is not None and not runtime.min_sdk <= options.min_sdk <= NEWEST_SDK:
        raise UsageError(f"--min-sdk {options.min_sdk}: {runtime.name} needs API level {runtime.min_sdk} or higher")
    return runtime


def _assets(bundle: Bundle, files: Sequence[ModelFile]) -> dict[str, bytes]:
    """Return models, labels, and a manifest of these alone.

    How the bundle was made and what was measured is left out: an app has no use for it.
    """
    names = answer_names(bundle)
    as_it_is = bundle.labels == names  # a binary model may have the positive label alone
    manifest = replace(
        bundle.manifest,
        files=tuple(replace(entry, path=asset_name(entry)) for entry in files),
        labels=LABELS_NAME if as_it_is else None,
        labels_sha256=bundle.manifest.labels_sha256 if as_it_is else None,
        golden=None,
        golden_sha256=None,
        source={},
        quantization={},
        metrics={},
        threads=(),
    )
    if as_it_is:
        labels = read_file(bundle.folder / str(bundle.manifest.labels))  # the manifest has its checksum
    else:
        labels = "".join(f"{name}\n" for name in names).encode()
    models = {asset_name(entry): check_file(bundle.folder, entry) for entry in files}
    return models | {LABELS_NAME: labels, MANIFEST_NAME: manifest.to_json().encode()}


@dataclass(frozen=True)
class _Contents:
    """The files of a package of any kind. `assets` and `golden` are by name in the app's folder of assets."""

    options: AndroidOptions
    code: AndroidCode
    assets: Mapping[str, bytes]
    golden: Mapping[str, bytes]
    pack: str

    @property
    def is_pack(self) -> bool:
        return self.options.kind in PACKS

    @property
    def min_sdk(self) -> int:
        return self.options.min_sdk or self.code.runtime.min_sdk

    @property
    def delivery(self) -> str:
        return self.options.delivery or DELIVERIES[0]

    @property
    def is_delivered_later(self) -> bool:
        """Whether the assets come after the installation, so that the test needs assets of its own."""
        return self.is_pack and self.delivery != "install-time"

    def files(self) -> dict[str, bytes]:
        """Return all files of the package."""
        files = self._library_files() | self.code.sources() | {"README.md": self._readme()}
        if not self.golden:
            return files
        test_assets = {**self.golden, **(self.assets if self.is_delivered_later else {})}
        files |= self.code.tests(own_assets=self.is_delivered_later)
        return files | self._in_assets("src/androidTest", test_assets)

    def _in_assets(self, folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
        return {f"{folder}/assets/{self.code.folder}/{name}": data for name, data in files.items()}

    def _library_files(self) -> dict[str, bytes]:
        """Return the assets, in the form that the kind gives them."""
        if self.options.kind == "module":
            return self._in_assets("src/main", self.assets) | self.code.module(self.min_sdk)
        if self.options.kind == "aar":
            assets = {f"{self.code.folder}/{name}": data for name, data in self.assets.items()}
            return {f"{self.code.folder}.aar": aar(self.code.aar_manifest(self.min_sdk), assets, self.code.rules())}
        gradle = self.code.pack(self.pack, self.options.kind, self.delivery)
        return self._in_assets(f"{self.pack}/src/main", self.assets) | {f"{self.pack}/build.gradle.kts": gradle}

    def _readme(self) -> bytes:
        """Return the README: a part for the kind, and parts that all kinds share."""
        runtime = self.code.runtime
        lines = [f'implementation("{coordinate}")' for coordinate in runtime.dependencies]
        library, manager = _PLAY_LIBRARIES.get(self.options.kind, ("", ""))
        values = {
            "pack": self.pack,
            "delivery": self.delivery,
            "dependencies": f"\n{' ' * 11}".join(lines),
            "library": library,
            "manager": manager,
            "open": "context, " if runtime.name == "mediapipe" else "",
            "least": str(self.min_sdk),
        }
        usage = "usage-later.md" if self.is_delivered_later else "usage.md"
        parts = [
            "pack.md" if self.is_pack else f"{self.options.kind}.md",
            usage,
            *(["golden.md"] if self.golden else []),
            *([runtime.notice] if runtime.notice else []),
        ]
        return b"\n".join(self.code.readme(part, **values) for part in parts)

    def description(self) -> dict[str, object]:
        """Return what package.json says of the package."""
        return {
            "kind": f"mbn-deploy android {self.options.kind}",
            "mbn_deploy": __version__,
            "model": self.code.manifest.model,
            "runtime": self.code.runtime.name,
            "package": self.code.package,
            "class": self.code.name,
            "min_sdk": None if self.is_pack else self.min_sdk,
            "pack": self.pack if self.is_pack else None,
            "delivery": self.delivery if self.is_pack else None,
            "models": {asset_name(entry): entry.sha256 for entry in self.code.files},
        }
