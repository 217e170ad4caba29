"""The main job on a real trained network and real photographs."""

from pathlib import Path

import pytest

from mbn_deploy.models.api import build
from mbn_deploy.pipeline.export import export_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
IMAGES = SHARED / "imagenet"


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models and photographs are not beside the checkout")
def test_v1_keeps_its_accuracy(tmp_path):
    """Float files answer as Keras does; what int8 loses is known, and int8 of both formats is one network."""
    model = build("mobilenet_v1", alpha=0.25, weights=SHARED / "models" / "float" / "mobilenet_v1_0.25_224.h5")
    bundle = export_model(
        model,
        tmp_path / "dist",
        precisions=["float32", "int8"],
        calibrate=IMAGES / "calibration",
        evaluate=IMAGES / "validation",
        evaluate_resize="squash",
        labels=IMAGES / "labels.txt",
        synsets=IMAGES / "synsets.txt",
    ).bundle
    assert bundle.metrics["images"] == 700
    assert bundle.metrics["reference"]["top1"]["value"] == pytest.approx(0.64, abs=1.5 / 700)
    measured = {(f.format, f.precision): bundle.metrics["files"][f.path] for f in bundle.files}
    assert measured["tflite", "float32"]["agreement"]["value"] >= 0.995
    assert measured["onnx", "float32"]["agreement"]["value"] >= 0.995
    for int8 in (measured["tflite", "int8"], measured["onnx", "int8"]):
        assert int8["top1_difference"]["value"] > -0.05
    assert measured["onnx", "int8"]["kl"] == pytest.approx(measured["tflite", "int8"]["kl"], rel=0.05)
