"""The Kotlin, Java and Gradle text of an Android package, filled in from templates.

Only checked names, numbers and words of this program's own tables are filled in: labels, file names and other text of a
bundle never become code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mbn_deploy.manifest import Manifest, ModelFile
from mbn_deploy.packages.android.answers import answer_code, last_function
from mbn_deploy.packages.android.choice import PictureFormat, asset_name, picture_format
from mbn_deploy.packages.android.names import constant
from mbn_deploy.packages.android.runtimes import AndroidRuntime
from mbn_deploy.packages.templates import fill, fill_template
from mbn_deploy.text import plain_words
from mbn_deploy.version import __version__

COMPILE_SDK = 36
PACK_BLOCKS = {"asset-pack": "assetPack", "ai-pack": "aiPack"}  # what a pack's build script calls each kind

_UNCOMPRESSED = 'Put androidResources {{ noCompress += \\"{}\\" }} into the app\'s build.gradle.kts.'
_WHOLE_BOX = "return floatArrayOf(0f, 0f, 1f, 1f)"
_CROP_BOX = """val sideways = rotationDegrees % 180 != 0
            val targetWidth = if (sideways) HEIGHT else WIDTH
            val targetHeight = if (sideways) WIDTH else HEIGHT
            val scale = min(width.toFloat() / targetWidth, height.toFloat() / targetHeight) * {fraction}
            val left = (1 - targetWidth * scale / width) / 2
            val top = (1 - targetHeight * scale / height) / 2
            return floatArrayOf(left, top, 1 - left, 1 - top)"""


@dataclass(frozen=True)
class AndroidCode:
    """The source files of a package: class `name` in `package`, for models under `folder` among the app's assets."""

    runtime: AndroidRuntime
    package: str
    name: str
    folder: str
    manifest: Manifest
    files: tuple[ModelFile, ...]

    def sources(self) -> dict[str, bytes]:
        """Return the files of `src/main/kotlin`: the class and what it needs."""
        where = f"src/main/kotlin/{self.package.replace('.', '/')}/{self.name}"
        return {f"{where}{suffix}.kt": self._filled(template) for suffix, template in self.runtime.sources.items()}

    def tests(self, *, own_assets: bool) -> dict[str, bytes]:
        """Return the code of `src/androidTest`: a test that replays the golden vectors, and one that is Java.

        With `own_assets` the models are taken from the test's own assets, else from those of the app.
        """
        context, getter = ("context", "getContext") if own_assets else ("targetContext", "getTargetContext")
        where = f"{self.package.replace('.', '/')}/{self.name}"
        return {
            f"src/androidTest/kotlin/{where}GoldenTest.kt": self._filled("GoldenTest.kt", context=context),
            f"src/androidTest/java/{where}JavaTest.java": self._filled("JavaTest.java", getter=getter),
        }

    def module(self, min_sdk: int) -> dict[str, bytes]:
        """Return the files that make a Gradle library module of the sources."""
        lines = (f'    implementation("{coordinate}")' for coordinate in self.runtime.dependencies)
        return {
            "build.gradle.kts": self._filled("build.gradle.kts", min_sdk=min_sdk, dependencies="\n".join(lines)),
            "consumer-rules.pro": self.rules(),
            "src/main/AndroidManifest.xml": self._filled("AndroidManifest.xml"),
        }

    def pack(self, name: str, plugin: str, delivery: str) -> bytes:
        """Return a pack's build.gradle.kts; `plugin` is one of `PACK_BLOCKS`."""
        block = PACK_BLOCKS[plugin]
        return self._filled("pack.gradle.kts", pack=name, plugin=plugin, block=block, delivery=delivery)

    def aar_manifest(self, min_sdk: int) -> bytes:
        """Return the AndroidManifest.xml of a library."""
        return self._filled("AarManifest.xml", min_sdk=min_sdk)

    def rules(self) -> bytes:
        """Return the rules that keep the interpreter's classes when an app shrinks its code."""
        return self._filled(f"consumer-{self.runtime.name}.pro")

    def readme(self, template: str, **values: str) -> bytes:
        """Return a part of the README."""
        return self._filled(template, **values)

    def _filled(self, template: str, **values: object) -> bytes:
        picture = picture_format(self.files[0])
        extension = self.runtime.format
        common: dict[str, object] = {
            "version": __version__,
            "package": self.package,
            "name": self.name,
            "folder": self.folder,
            "about": f"Made by mbn-deploy {__version__} from {plain_words(self.manifest.model)}.",
            "compile_sdk": COMPILE_SDK,
            "extension": extension,
            "uncompressed": _UNCOMPRESSED.format(extension),
            "entries": "\n".join(map(self._entry, self.files)),
            "default": constant(self.files[0].precision),
            "names_count": self.manifest.answers.name_count(self.manifest.classes),
            "classes": self.manifest.classes,
            "width": picture.width,
            "height": picture.height,
            "channels": picture.channels,
            "resize": constant(picture.resize),
            "crop_fraction": float(picture.crop_fraction),
            "filter": picture.filter.upper(),
            "box": _box(picture),
        }
        common |= self._answer_values()
        return fill_template("android", template, common | values).encode()

    def _answer_values(self) -> dict[str, object]:
        """Return the parts that depend on what the answers mean."""
        code = answer_code(self.manifest.answers)
        best = "best" if self.runtime.name == "mediapipe" else f"{self.name}Tensors.best"
        return {key: fill(text, {"name": self.name, "best": best}) for key, text in asdict(code).items()}

    def _entry(self, file: ModelFile) -> str:
        """Return a model's entry in the enum of models."""
        picture = picture_format(file)
        values = {
            "constant": constant(file.precision),
            "name": self.name,
            "folder": self.folder,
            "path": asset_name(file),
            "megabytes": f"{file.size / 1e6:.2f}",
            "sha256": f"sha256 {plain_words(file.sha256)}",
            "width": picture.width,
            "height": picture.height,
            "classes": self.manifest.classes,
            "input_type": file.input.dtype.upper(),
            "mean": _floats(file.preprocess.mean, picture.channels),
            "std": _floats(file.preprocess.std, picture.channels),
            "input_scale": _double(file.input.scale),
            "input_zero_point": file.input.zero_point or 0,
            "blue_first": _boolean(value=file.preprocess.channels == "bgr"),
            "channels_first": _boolean(value=file.layout == "nchw"),
            "output_type": file.output.dtype.upper(),
            "output_scale": _double(file.output.scale),
            "output_zero_point": file.output.zero_point or 0,
            "function": last_function(self.manifest.answers),
        }
        return fill_template("android", self.runtime.entry, values).rstrip("\n")


def _box(picture: PictureFormat) -> str:
    """Return the Kotlin statements that compute which part of a picture MediaPipe looks at."""
    if picture.kept_centre is None:
        return _WHOLE_BOX
    return _CROP_BOX.format(fraction=f"{np.float32(picture.kept_centre)!s}f")


def _floats(values: Sequence[float], channels: int) -> str:
    per_channel = values if len(values) == channels else [values[0]] * channels
    return ", ".join(f"{np.float32(value)!s}f" for value in per_channel)


def _double(value: float | None) -> str:
    return repr(float(value or 0))


def _boolean(*, value: bool) -> str:
    return str(value).lower()
