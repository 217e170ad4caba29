"""The interpreters that an Android package can be written for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mbn_deploy.errors import UnknownNameError
from mbn_deploy.manifest import FileFormat


@dataclass(frozen=True)
class AndroidRuntime:
    """An interpreter for Android apps, and the templates of the class that runs models with it.

    Attributes:
        name: what `--runtime` calls it.
        format: the kind of model file that it runs.
        dependencies: its Maven coordinates.
        min_sdk: the least API level that it needs.
        inputs: the types of input tensors that the class can fill.
        outputs: the types of output tensors that the class can read.
        sources: the template of each source file, by what follows the class's name in the file's name.
        entry: the template of a model's entry in the enum of models.
        notice: the template of a part of the README on what the interpreter does beside its work; None for nothing.
    """

    name: str
    format: FileFormat
    dependencies: tuple[str, ...]
    min_sdk: int
    inputs: frozenset[str]
    outputs: frozenset[str]
    sources: Mapping[str, str]
    entry: str
    notice: str | None = None


# Without MediaPipe the class prepares pictures and tensors by itself; only the file `Engine` knows the interpreter.
_OWN_PREPROCESSING = {
    "": "Classifier.kt",
    "Files": "Files.kt",
    "Model": "Model.kt",
    "Preprocess": "Preprocess.kt",
    "Tensors": "Tensors.kt",
}
_RUNTIMES = (
    # ai.google.dev/edge/litert/android lists LiteRT 1.4 with the Interpreter and API level 21. The 2.x line lost that
    # class in 2.0.3 and has no library for 32-bit devices in 2.1.0 (google-ai-edge/LiteRT, issues 4775 and 3729).
    # `litert-api` must be named as well (issue 2752).
    AndroidRuntime(
        name="litert",
        format="tflite",
        dependencies=("com.google.ai.edge.litert:litert:1.4.2", "com.google.ai.edge.litert:litert-api:1.4.2"),
        min_sdk=21,
        inputs=frozenset({"float32", "uint8", "int8"}),
        outputs=frozenset({"float32", "uint8", "int8", "int16"}),
        sources=_OWN_PREPROCESSING | {"Engine": "EngineLitert.kt"},
        entry="ModelEntry.kt",
    ),
    # ai.google.dev/edge/mediapipe/solutions/setup_android
    AndroidRuntime(
        name="mediapipe",
        format="tflite",
        dependencies=("com.google.mediapipe:tasks-vision:0.10.29",),
        min_sdk=24,
        inputs=frozenset({"float32", "uint8"}),
        outputs=frozenset({"float32", "uint8"}),
        sources={"": "ClassifierMediapipe.kt", "Files": "Files.kt", "Model": "ModelMediapipe.kt"},
        entry="ModelEntryMediapipe.kt",
        notice="metrics.md",
    ),
    # ONNX Runtime needs API level 24 from 1.21 on.
    AndroidRuntime(
        name="onnx",
        format="onnx",
        dependencies=("com.microsoft.onnxruntime:onnxruntime-android:1.24.3",),
        min_sdk=24,
        inputs=frozenset({"float32", "uint8", "int8"}),
        outputs=frozenset({"float32", "uint8", "int8"}),
        sources=_OWN_PREPROCESSING | {"Engine": "EngineOnnx.kt"},
        entry="ModelEntry.kt",
    ),
)
RUNTIMES: dict[str, AndroidRuntime] = {runtime.name: runtime for runtime in _RUNTIMES}


def runtime_named(name: str) -> AndroidRuntime:
    """Return the runtime of this name; raises `UnknownNameError`."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, RUNTIMES)
    return RUNTIMES[name]
