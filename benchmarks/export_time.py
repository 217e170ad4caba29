"""Export time of V2 1.0/224 to all formats and precisions, split into steps, beside the plain route.

    .venv/bin/python benchmarks/export_time.py [--data ../shared] [--rounds 3] [--json FILE]

The plain route is what the tools' own documentation shows: `TFLiteConverter.from_keras_model` once a
precision, `tf2onnx`, `onnxruntime.quantization.quantize_static`, on the same 200 calibration images.
tf2onnx is in the dependency group `bench` (`pip install --group bench`); without it its part is left out,
and said so. Rounds of both routes take turns, since machines are never equally busy; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy.runtime.backends.modules import disable_telemetry, load_part

SIZE = (224, 224)
COUNT = 200
# Our steps that are conversion and quantization proper. Reading the images is part of calibrating, on both routes.
CORE = ("read the model", "load images", "quantize")
Steps = dict[str, float]


@contextmanager
def timed(steps: Steps, name: str) -> Iterator[None]:
    """Seconds of the block, under `name`."""
    start = time.perf_counter()
    yield
    steps[name] = time.perf_counter() - start


def ours(model: Any, data: Path, out: Path) -> Steps:
    """Our export with its defaults: six files, each opened and run, golden vectors, bundle."""
    from mbn_deploy.pipeline.export import export_model

    calibration, labels = data / "imagenet" / "calibration", data / "imagenet" / "labels.txt"
    start = time.perf_counter()
    result = export_model(model, out, calibrate=calibration, calibration_count=COUNT, labels=labels, overwrite=True)
    total = time.perf_counter() - start
    return {**result.seconds, "total": total}


def plain(model: Any, data: Path, out: Path) -> Steps:
    """Four TFLite conversions, and ONNX float and int8."""
    steps: Steps = {}
    with timed(steps, "total"):
        with timed(steps, "load images"):
            images = list(_images(data))
        for precision in ("float32", "float16", "dynamic", "int8"):
            with timed(steps, f"from_keras_model {precision}"):
                (out / f"{precision}.tflite").write_bytes(_tflite(model, precision, images))
        if find_spec("tf2onnx") is not None:
            with timed(steps, "tf2onnx"):
                _tf2onnx(model, out / "float32.onnx")
            with timed(steps, "quantize_static"):
                _quantize_static(out, images)
    return steps


def _images(data: Path) -> Iterator[Any]:
    from PIL import Image

    for path in sorted((data / "imagenet" / "calibration").glob("*.jpg"))[:COUNT]:
        with Image.open(path) as image:
            side = min(image.size)
            left, top = ((n - side) // 2 for n in image.size)
            square = image.convert("RGB").resize(SIZE, box=(left, top, left + side, top + side))
            yield (np.asarray(square, np.float32) / 127.5 - 1)[None]


def _tflite(model: Any, precision: str, images: list[Any]) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    data: bytes = converter.convert()
    return data


def _tf2onnx(model: Any, path: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    # tf2onnx.convert.from_keras does not know Keras 3's models; from_function is what it does inside.
    function = tf.function(lambda x: model(x, training=False))
    signature = [tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")]
    tf2onnx.convert.from_function(function, input_signature=signature, opset=17, output_path=str(path))


def _quantize_static(out: Path, images: list[Any]) -> None:
    quantization = load_part("onnx", "quantization")
    preparation = load_part("onnx", "quantization.shape_inference")

    class Reader:
        """The images, one by one."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {"image": image}

    preparation.quant_pre_process(str(out / "float32.onnx"), str(out / "prepared.onnx"), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(out / "prepared.onnx"),
        str(out / "int8.onnx"),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def medians(rounds: list[Steps]) -> Steps:
    """Return the median of each step."""
    return {name: statistics.median(steps[name] for steps in rounds) for name in rounds[0]}


def main() -> int:
    """Run both routes in turn, print the steps and the two ratios that matter."""
    arguments = _arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    disable_telemetry()  # tf2onnx imports onnxruntime by itself
    from mbn_deploy.models.api import build

    weights = arguments.data / "models" / "float" / "mobilenet_v2_1.0_224.weights.h5"
    model = build("mobilenet_v2", weights=weights)
    found: dict[str, list[Steps]] = {"ours": [], "plain": []}
    routes: dict[str, Callable[[Any, Path, Path], Steps]] = {"ours": ours, "plain": plain}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(arguments.rounds):
            for name, route in routes.items():
                folder = Path(scratch) / name
                folder.mkdir(exist_ok=True)
                with redirect_stdout(sys.stderr):  # the converters print
                    found[name].append(route(model, arguments.data, folder))
    middle = {name: medians(rounds) for name, rounds in found.items()}
    for name, steps in middle.items():
        print(f"\n{name}, median of {arguments.rounds} (seconds)")
        for step, seconds in steps.items():
            print(f"  {step:28} {seconds:8.2f}")
    _summary(middle["ours"], middle["plain"])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"rounds": found, "medians": middle}, indent=2) + "\n")
    return 0


def _summary(own: Steps, other: Steps) -> None:
    core = sum(s for name, s in own.items() if name in CORE or name.startswith(("write tflite", "write onnx")))
    print(
        f"\nconverting and quantizing {core:.2f} s; everything else {own['total'] - core:.2f} s "
        f"({(own['total'] - core) / core:.0%} on top)"
    )
    print(f"ours {own['total']:.2f} s, plain {other['total']:.2f} s: {own['total'] / other['total']:.0%}")
    if "tf2onnx" not in other:
        print("tf2onnx is not installed: the plain route above is TFLite alone")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--data", type=Path, default=here.parent / "shared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
