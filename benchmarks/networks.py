"""Export networks of keras.applications and of a few other families, and say how equal the files are to Keras.

    .venv/bin/python benchmarks/networks.py [--only NAME,...]

The figures are added to `results/networks.json`, and the table of docs/networks.md is written from that file.

Weights are random (seed 0), so accuracy means nothing. Pictures are random, too: smooth fields of colour. Each network
has 10 outputs without activation, and these are compared with Keras on pictures that were not used for calibration: for
float files the largest difference relative to the largest output, for int8 files the signal-to-noise ratio in dB and
the share of pictures with the same largest output.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy import export_model
from mbn_deploy.arrays import Array, Floats
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import MbnError, UsageError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.verify.runner import FileRunner

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "networks.json", HERE.parent / "docs" / "networks.md"
BEGIN, END = "<!-- figures of benchmarks/networks.py -->", "<!-- end of the figures -->"
SIZE, OUTPUTS, CALIBRATION, TEST = 96, 10, 24, 32
APPLICATIONS = (
    *("EfficientNetB0", "EfficientNetV2B0", "NASNetMobile", "ResNet50", "ResNet50V2", "DenseNet121", "Xception"),
    *("InceptionV3", "VGG16", "ConvNeXtTiny"),
)
Network = Callable[[], Any]
Figures = dict[str, Any]


# Networks


def application(name: str) -> Network:
    """Return a function that builds the network `name` of keras.applications."""

    def build() -> Any:
        import keras

        options = {"weights": None, "input_shape": (SIZE, SIZE, 3), "classes": OUTPUTS, "classifier_activation": None}
        return getattr(keras.applications, name)(**options)

    return build


def _body(stages: Callable[[Any, Any], Any]) -> Network:
    """Return a function that builds a network of a stem, `stages(x, keras.layers)`, pooling and a Dense layer."""

    def build() -> Any:
        import keras

        layers = keras.layers
        inputs = keras.Input((SIZE, SIZE, 3))
        x = layers.Rescaling(1 / 127.5, -1)(inputs)
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(32, 3, 2, padding="same", use_bias=False)(x)))
        x = layers.GlobalAveragePooling2D()(stages(x, layers))
        return keras.Model(inputs, layers.Dense(OUTPUTS)(x))

    return build


def _inverted_residual(x: Any, layers: Any, channels: int, kernel: int, stride: int) -> Any:
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x)))
    y = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization()(layers.Conv2D(channels, 1)(layers.ReLU(6.0)(layers.BatchNormalization()(y))))
    return layers.Add()([x, y]) if x.shape == y.shape else y


def _mnasnet(x: Any, layers: Any) -> Any:
    """Build inverted residuals with ReLU6 and windows of 3 and 5: EfficientNet-Lite and MnasNet without gates."""
    for channels, kernel, stride in ((24, 3, 2), (24, 3, 1), (40, 5, 2), (40, 5, 1), (80, 3, 2), (80, 5, 1)):
        x = _inverted_residual(x, layers, channels, kernel, stride)
    return x


def _resnext(x: Any, layers: Any) -> Any:
    """Build ResNeXt's blocks: convolutions in 8 groups."""
    for channels, stride in ((64, 2), (64, 1), (128, 2), (128, 1)):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(channels, 1)(x)))
        y = layers.Conv2D(channels, 3, stride, padding="same", groups=8, use_bias=False)(y)
        y = layers.BatchNormalization()(layers.Conv2D(channels, 1)(layers.ReLU()(layers.BatchNormalization()(y))))
        x = layers.ReLU()(layers.Add()([layers.Conv2D(channels, 1, stride)(x), y]))
    return x


def _shufflenet(x: Any, layers: Any) -> Any:
    """Build ShuffleNet V2's blocks: halves of the channels, and a shuffle of them."""
    x = layers.Conv2D(64, 3, 2, padding="same")(x)
    for _ in range(3):
        height, width, channels = x.shape[1:]
        left, right = x[..., : channels // 2], x[..., channels // 2 :]
        right = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(channels // 2, 1)(right)))
        right = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(right))
        x = layers.Concatenate()([left, layers.ReLU()(layers.Conv2D(channels // 2, 1)(right))])
        x = layers.Reshape((height, width, 2, channels // 2))(x)
        x = layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))
    return x


def _cbam(x: Any, layers: Any) -> Any:
    """Build convolutions with attention to channels and positions (CBAM)."""
    import keras

    ops = keras.ops
    for channels in (48, 64):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(channels, 3, 2, padding="same")(x)))
        first, second = layers.Dense(8, activation="relu"), layers.Dense(channels)
        pooled = layers.GlobalAveragePooling2D(keepdims=True)(x), layers.GlobalMaxPooling2D(keepdims=True)(x)
        x = x * ops.sigmoid(second(first(pooled[0])) + second(first(pooled[1])))
        maps = layers.Concatenate()([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)])
        x = x * layers.Conv2D(1, 7, padding="same", activation="sigmoid")(maps)
    return x


def _convnext(x: Any, layers: Any) -> Any:
    """Build ConvNeXt's blocks: wide depthwise windows, LayerNormalization and GELU."""
    for channels in (48, 96):
        x = layers.Conv2D(channels, 2, 2)(layers.LayerNormalization(epsilon=1e-6)(x))
        for _ in range(2):
            y = layers.LayerNormalization(epsilon=1e-6)(layers.DepthwiseConv2D(7, padding="same")(x))
            y = layers.Conv2D(channels, 1)(layers.Dense(4 * channels, activation="gelu")(y))
            x = layers.Add()([x, y])
    return x


NETWORKS: Mapping[str, Network] = {
    **{name: application(name) for name in APPLICATIONS},
    "MnasNet-like, EfficientNet-Lite-like": _body(_mnasnet),
    "ResNeXt-like": _body(_resnext),
    "ShuffleNet-V2-like": _body(_shufflenet),
    "CBAM": _body(_cbam),
    "ConvNeXt-like": _body(_convnext),
}


# Measuring


def pictures(count: int, seed: int) -> Array:
    """Return smooth random fields of colour, uint8 (N, H, W, 3)."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for one in small])


def measure(build: Network) -> Figures:
    """Export a network; return its figures, or why it is refused."""
    import keras

    keras.utils.set_random_seed(0)
    model = build()
    parameters = int(model.count_params())
    unseen = pictures(TEST, 1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        np.savez(Path(folder) / "pictures.npz", pictures(CALIBRATION, 0))
        try:
            bundle, scale = export(model, Path(folder))
        except MbnError as error:
            return {"parameters": parameters, "refused": str(error)}
        expected = np.asarray(model.predict(scale(unseen), verbose=0))
        files = {f"{file.precision} {file.format}": compare(bundle, file, unseen, expected) for file in bundle.files}
    return {"parameters": parameters, **files}


def export(model: Any, folder: Path) -> tuple[Bundle, Callable[[Array], Floats]]:
    """Export a model that takes pixels, else as one of values in [-1, 1]; return what its input is made by, too."""
    options: dict[str, Any] = {"scores": "classes", "precisions": ("float32", "int8"), "resize": "squash"}
    options |= {"calibrate": folder / "pictures.npz", "report": False, "overwrite": True}
    try:
        made = export_model(model, folder / "bundle", **options)
    except UsageError:
        made = export_model(model, folder / "bundle", preprocess="tf", **options)
        return made.bundle, as_tf
    return made.bundle, as_pixels


def as_pixels(pixels: Array) -> Floats:
    """Return pixels as floating-point numbers."""
    return pixels.astype(np.float32)


def as_tf(pixels: Array) -> Floats:
    """Return pixels in [-1, 1]."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def compare(bundle: Bundle, file: ModelFile, unseen: Array, expected: Floats) -> Figures:
    """Return how near a file comes to Keras."""
    backend = open_backend(bundle.folder / file.path, file.format)
    got = FileRunner(backend, file.preprocess, file.layout, file.input, file.output)(unseen)
    noise = float(((got - expected) ** 2).mean())
    return {
        "difference": float(np.abs(got - expected).max() / np.abs(expected).max()),
        "sqnr": float(10 * np.log10(expected.var() / max(noise, 1e-30))),
        "agreement": float((got.argmax(1) == expected.argmax(1)).mean()),
    }


# The page


def with_table(page: str, results: Mapping[str, Figures]) -> str:
    """Return the page with a new table between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [row for name in NETWORKS if name in results for row in _row(name, results[name])]
    return before + "\n".join([BEGIN, "", *_HEAD, *rows, "", END]) + after


_HEAD = (
    "| network | parameters | float32, largest difference from Keras | int8 file | TFLite, dB | ONNX, dB | agree, % |",
    "|---|--:|--:|---|--:|--:|--:|",
)


def _row(name: str, figures: Figures) -> Iterator[str]:
    start = f"| {name} | {figures['parameters'] / 1e6:.1f} M |"
    if "refused" in figures:
        reason = figures["refused"].partition(";")[0].replace("|", "/")
        yield f"{start} refused: {reason} | | | | |"
        return
    floats = [figures[f"float32 {form}"]["difference"] for form in ("tflite", "onnx")]
    precision = next(key.split()[0] for key in figures if key.startswith("int8"))
    integers = [figures[f"{precision} {form}"] for form in ("tflite", "onnx")]
    decibels = " | ".join(f"{one['sqnr']:.0f}" for one in integers)
    agree = " / ".join(f"{100 * one['agreement']:.0f}" for one in integers)
    yield f"{start} {max(floats):.0e} | {precision} | {decibels} | {agree} |"


def main() -> None:
    """Measure the networks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,...", help="names of networks; nothing measures none")
    only = parser.parse_args().only
    results: dict[str, Figures] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in NETWORKS if only is None else [name for name in only.split(",") if name]:
        results[name] = measure(NETWORKS[name])
        print(name, results[name], flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
