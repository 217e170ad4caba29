"""The Kotlin, Java and Gradle text of an Android package, out of the templates in `android_files/`.

What is filled in are checked names, numbers, and words of this program's own tables: labels, file names and
other text of a bundle never become code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

import numpy as np

from mbn_deploy.manifest import Manifest, ModelFile
from mbn_deploy.packages.android.choice import AndroidRuntime, asset_name, picture_of
from mbn_deploy.packages.android.names import constant
from mbn_deploy.version import __version__

COMPILE_SDK = 36

# Of each runtime: source files of the class by what follows its name, and the templates.
_COMMON = {"": "Classifier.kt", "Files": "Files.kt", "Preprocess": "Preprocess.kt", "Tensors": "Tensors.kt"}
SOURCES: dict[str, dict[str, str]] = {
    "litert": _COMMON | {"Model": "Model.kt", "Engine": "EngineLitert.kt"},
    "onnx": _COMMON | {"Model": "Model.kt", "Engine": "EngineOnnx.kt"},
    "mediapipe": {"": "ClassifierMediapipe.kt", "Files": "Files.kt", "Model": "ModelMediapipe.kt"},
}
_ENTRIES = {"litert": "ModelEntry.kt", "onnx": "ModelEntry.kt", "mediapipe": "ModelEntryMediapipe.kt"}
_UNCOMPRESSED = 'Put androidResources {{ noCompress += \\"{}\\" }} into the app\'s build.gradle.kts.'
_WHOLE_BOX = "return floatArrayOf(0f, 0f, 1f, 1f)"
_CROP_BOX = """val sideways = rotationDegrees % 180 != 0
            val targetWidth = if (sideways) HEIGHT else WIDTH
            val targetHeight = if (sideways) WIDTH else HEIGHT
            val scale = min(width.toFloat() / targetWidth, height.toFloat() / targetHeight) * {fraction}
            val left = (1 - targetWidth * scale / width) / 2
            val top = (1 - targetHeight * scale / height) / 2
            return floatArrayOf(left, top, 1 - left, 1 - top)"""


class _Code(Template):
    """`$` means something in Kotlin, and `%` too."""

    delimiter = "§"


@dataclass(frozen=True)
class AndroidCode:
    """What the text is made of. `folder` is that of the assets."""

    runtime: AndroidRuntime
    package: str
    name: str
    folder: str
    manifest: Manifest
    files: tuple[ModelFile, ...]

    def sources(self) -> dict[str, bytes]:
        """`src/main`: the class and what it needs."""
        where = f"src/main/kotlin/{self.package.replace('.', '/')}/{self.name}"
        made = SOURCES[self.runtime.name].items()
        return {f"{where}{suffix}.kt": self._filled(template) for suffix, template in made}

    def tests(self, *, own_assets: bool) -> dict[str, bytes]:
        """`src/androidTest`: golden vectors replayed on the phone, and the class used from Java.

        With `own_assets` the models are taken from the test's own assets, else from those of the app.
        """
        context, getter = ("context", "getContext") if own_assets else ("targetContext", "getTargetContext")
        where = f"{self.package.replace('.', '/')}/{self.name}"
        return {
            f"src/androidTest/kotlin/{where}GoldenTest.kt": self._filled("GoldenTest.kt", context=context),
            f"src/androidTest/java/{where}JavaTest.java": self._filled("JavaTest.java", getter=getter),
        }

    def module(self, min_sdk: int) -> dict[str, bytes]:
        """What makes a Gradle library module of the sources."""
        lines = (f'    implementation("{coordinate}")' for coordinate in self.runtime.dependencies)
        gradle = self._filled("build.gradle.kts", min_sdk=min_sdk, dependencies="\n".join(lines))
        return {
            "build.gradle.kts": gradle,
            "consumer-rules.pro": self.rules(),
            "src/main/AndroidManifest.xml": self._filled("AndroidManifest.xml"),
        }

    def pack(self, name: str, plugin: str, delivery: str) -> bytes:
        """A pack's build.gradle.kts; `plugin` is `asset-pack` or `ai-pack`."""
        block = {"asset-pack": "assetPack", "ai-pack": "aiPack"}[plugin]
        return self._filled("pack.gradle.kts", pack=name, plugin=plugin, block=block, delivery=delivery)

    def aar_manifest(self, min_sdk: int) -> bytes:
        """The AndroidManifest.xml of a finished library."""
        return self._filled("AarManifest.xml", min_sdk=min_sdk)

    def rules(self) -> bytes:
        """What shrinking must leave alone."""
        return self._filled(f"consumer-{self.runtime.name}.pro")

    def readme(self, template: str, **values: str) -> bytes:
        """A README out of `template`."""
        return self._filled(template, **values)

    def _filled(self, template: str, **values: object) -> bytes:
        height, width, channels, resize, crop_fraction, picture_filter = picture_of(self.files[0])
        entry = _ENTRIES[self.runtime.name]
        box = _CROP_BOX.format(fraction=f"{np.float32(crop_fraction)!s}f") if resize == "crop" else _WHOLE_BOX
        extension = self.runtime.format
        known = {
            "version": __version__,
            "package": self.package,
            "name": self.name,
            "folder": self.folder,
            "about": f"Made by mbn-deploy {__version__} from {plain(self.manifest.model)}.",
            "compile_sdk": COMPILE_SDK,
            "extension": extension,
            "uncompressed": _UNCOMPRESSED.format(extension),
            "entries": "\n".join(self._entry(entry, file) for file in self.files),
            "default": constant(self.files[0].precision),
            "classes": self.manifest.classes,
            "width": width,
            "height": height,
            "channels": channels,
            "resize": resize.upper(),
            "crop_fraction": float(crop_fraction),
            "filter": picture_filter.upper(),
            "box": box,
            "dependencies": "",
        }
        return _Code(_template(template)).substitute(known | values).encode()

    def _entry(self, template: str, file: ModelFile) -> str:
        height, width, channels, *_ = picture_of(file)
        return (
            _Code(_template(template))
            .substitute(
                constant=constant(file.precision),
                name=self.name,
                folder=self.folder,
                path=asset_name(file),
                megabytes=f"{file.size / 1e6:.2f}",
                sha256=f"sha256 {plain(file.sha256)}",
                width=width,
                height=height,
                classes=self.manifest.classes,
                input_type=file.input.dtype.upper(),
                mean=_floats(file.preprocess.mean, channels),
                std=_floats(file.preprocess.std, channels),
                input_scale=_double(file.input.scale),
                input_zero_point=file.input.zero_point or 0,
                blue_first=_boolean(value=file.preprocess.channels == "bgr"),
                channels_first=_boolean(value=file.layout == "nchw"),
                output_type=file.output.dtype.upper(),
                output_scale=_double(file.output.scale),
                output_zero_point=file.output.zero_point or 0,
                logits=_boolean(value=self.manifest.scores == "logits"),
            )
            .rstrip("\n")
        )


def plain(text: str) -> str:
    """Text of a bundle as it may stand in a comment or a README: letters and a few signs, all else as `?`."""
    return re.sub(r"[^A-Za-z0-9 ._+,()-]", "?", text)


def _floats(values: Sequence[float], channels: int) -> str:
    every = values if len(values) == channels else [values[0]] * channels
    return ", ".join(f"{np.float32(value)!s}f" for value in every)


def _double(value: float | None) -> str:
    return repr(float(value or 0))


def _boolean(*, value: bool) -> str:
    return str(value).lower()


def _template(name: str) -> str:
    return (resources.files("mbn_deploy.packages.android") / "templates" / name).read_text("utf-8")
