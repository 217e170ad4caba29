"""int16x8 on trained networks: the files, the manifest, the commands, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_run import NETWORK, run
from quantize_graphs import demo_calibration, demo_graph, demo_held_back, output

from mbn_deploy.answers import Answers
from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.export.encode import ModelDescription, encode_int8
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.models.api import build
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import open_source
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT16
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.runner import FileRunner

SHARED = Path(__file__).resolve().parents[3] / "shared"


def answers(name, recipe):
    """Scores on the held-back digits, and the file."""
    graph, preprocess = demo_graph(name)
    found = quantize(graph, preprocess, demo_calibration(), recipe)
    file = encode_int8(found.graph, found.preprocess, ModelDescription(name, Answers(), preprocess), "tflite")
    return FileRunner(open_backend(file.data, "tflite"), file.preprocess, file.layout)(demo_held_back()[0]), file


@pytest.mark.parametrize(
    ("name", "granularity"),
    [
        ("mobilenet_v1", "per-channel"),
        ("mobilenet_v1", "per-tensor"),
        ("mobilenet_v2", "per-channel"),
        ("mobilenet_v3_small", "per-channel"),
    ],
)
def test_trained_networks_answer_as_in_float(name, granularity):
    graph, preprocess = demo_graph(name)
    wanted = output(graph, normalize(demo_held_back()[0], preprocess)).argmax(1)
    scores, file = answers(name, replace(INT16, granularity=granularity))
    assert file.precision == "int16x8"
    assert (scores.argmax(1) == wanted).mean() >= 0.98
    assert report_tflite(file.data, "m").precision == "int16x8"


@pytest.fixture(scope="module")
def both(digits):
    """A bundle with float32, int8 and int16x8."""
    out = digits / "wide"
    result = run(
        "export", *NETWORK, "-o", out, "--precisions", "float32,int8,int16x8", "--resize", "squash", "--labels",
        digits / "labels.txt", "--calibrate", digits / "calibration", "--calibration-count", 50,
        "--evaluate", digits / "held-back", "--max-drop", 3, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)["manifest"]


def entry_of(manifest, precision, file_format="tflite"):
    return next(f for f in manifest["files"] if (f["precision"], f["format"]) == (precision, file_format))


def test_the_manifest_describes_it(both):
    _, manifest = both
    entry = entry_of(manifest, "int16x8")
    assert entry["path"].endswith("_int16x8.tflite")
    assert (entry["input"]["dtype"], entry["output"]["dtype"]) == ("uint8", "int16")
    assert (entry["output"]["scale"], entry["output"]["zero_point"]) == (2.0**-15, 0)
    facts = manifest["quantization"]
    assert facts["precision"] == "int8"
    assert facts["int16x8"]["recipe"]["activations"] == "int16"
    assert [rung["recipe"] for rung in facts["int16x8"]["rungs"]] == ["int16x8"]
    measured = manifest["metrics"]["files"][entry["path"]]
    assert measured["agreement"]["value"] >= 0.98


def test_the_commands_take_it(both, picture):
    out, manifest = both
    path = out / entry_of(manifest, "int16x8")["path"]
    with Classifier.open(out, precision="int16x8") as classifier:
        best = classifier.classify(picture, top_k=1)[0]
    with Classifier.open(path, resize="squash") as classifier:
        assert classifier.classify(picture, top_k=1)[0] == best
    assert 0.3 < best.score <= 1
    with Classifier.open(out) as classifier:  # slow: never what runs if nobody says
        assert classifier.info.precision == "int8"
    checked = json.loads(run("verify", out, "--json").stdout)
    assert all(row["passed"] for row in checked["files"])
    shown = json.loads(run("inspect", path, "--delegate", "--json").stdout)
    assert (shown["precision"], shown["all_integer"], shown["delegate"]["partitions"]) == ("int16x8", True, 0)
    assert shown["relu6"] == []


def test_its_layers_are_compared_with_float(both, digits):
    out, manifest = both
    file, reference = (out / entry_of(manifest, precision)["path"] for precision in ("int16x8", "float32"))
    wide_rows = diagnose(file, reference, digits / "calibration", count=8)
    narrow_rows = diagnose(out / entry_of(manifest, "int8")["path"], reference, digits / "calibration", count=8)
    assert wide_rows.agreement == 1.0
    assert wide_rows.not_compared == ()
    assert {row.dtype for row in wide_rows.layers} == {"int16"}
    quiet = {row.tensor: row.sqnr_alone for row in narrow_rows.layers}
    assert all(row.sqnr_alone > quiet[row.tensor] for row in wide_rows.layers if row.operations == ("MEAN",))


def test_chosen_layers_by_command(digits, tmp_path):
    result = run(
        "export", *NETWORK, "-o", tmp_path / "out", "--precisions", "float32,int8", "--formats", "tflite",
        "--calibrate", digits / "calibration", "--calibration-count", 20, "--int16-layers", "conv_pw_1", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(result.stdout)["manifest"]
    assert entry_of(manifest, "int8-mixed")["path"].endswith("_int8-mixed.tflite")
    assert manifest["quantization"]["int16_layers"] == ["conv_pw_1"]


def test_what_cannot_be_is_said(digits, tmp_path):
    common = ("export", *NETWORK, "-o", tmp_path / "out", "--calibrate", digits / "calibration")
    for options, words in (
        (("--formats", "onnx", "--precisions", "int16x8"), "TFLite only"),
        (("--int16-layers", "conv_pw_1"), "--formats tflite"),
        (("--formats", "tflite", "--precisions", "int8", "--int16-layers", "nowhere"), "nowhere"),
    ):
        result = run(*common, *options)
        assert result.exit_code == 2, (options, result.stderr)
        assert words in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models and photographs are not beside the checkout")
def test_v3_small_loses_next_to_nothing():
    """The network that 8 bits hurt most; on calibration photographs that no range was taken from."""
    weights = SHARED / "models" / "float" / "mobilenet_v3_small_1.0_224.weights.h5"
    source = open_source(
        build("mobilenet_v3_small", weights=weights), ExportOptions(precisions=("float32",), resize="crop")
    )
    folder = SHARED / "imagenet" / "calibration"
    calibration = load_calibration(folder, source.size, source.description.preprocess, count=60)
    others = load_calibration(folder, source.size, source.description.preprocess, count=160)
    seen = set(calibration.names)
    pixels = np.stack([p for p, name in zip(others.pixels, others.names, strict=True) if name not in seen])
    found = quantize(source.graph, source.description.preprocess, calibration, INT16)
    file = encode_int8(found.graph, found.preprocess, source.description, "tflite")
    scores = FileRunner(open_backend(file.data, "tflite"), file.preprocess, file.layout)(pixels)
    wanted = output(source.graph, normalize(pixels, source.description.preprocess))
    assert len(pixels) == 100
    assert (scores.argmax(1) == wanted.argmax(1)).mean() >= 0.95
    divergence = (wanted * np.log((wanted + 1e-7) / (scores + 1e-7))).sum(1)
    assert np.median(divergence) < 0.02
