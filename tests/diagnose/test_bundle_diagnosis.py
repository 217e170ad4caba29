"""The diagnosis of a bundle: what its export recorded about channels, and what the command shows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_run import run
from quantize_graphs import demo_calibration, demo_graph, demo_model

from mbn_deploy.answers import Answers
from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.diagnose.read_graph import read_file_graph
from mbn_deploy.errors import InputError
from mbn_deploy.export.encode import ModelDescription, encode_float, encode_int8
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8
from mbn_deploy.runtime.bundle import open_bundle
from mbn_deploy.verify.golden import open_golden

ROUNDING = 1 / np.sqrt(12)  # of a step: the error of uniform rounding
NETWORKS = ("mobilenet_v2", "mobilenet_v3_small")
FORMATS = ("tflite", "onnx")


@pytest.fixture(scope="module")
def bundle(digits, tmp_path_factory):
    """A V3-Small with everything that the demo's recipes do, as anybody exports it: (float32, int8) by format."""
    out = tmp_path_factory.mktemp("bundle") / "dist"
    export_model(
        demo_model("mobilenet_v3_small"), out,
        precisions=("float32", "int8"), resize="squash", calibrate=digits / "calibration", calibration_count=60,
        report=False,
    )  # fmt: skip
    return out


def files_of(bundle, kind):
    manifest = open_bundle(bundle).manifest
    files = {entry.precision: bundle / entry.path for entry in manifest.files if entry.format == kind}
    return files["int8"], files["float32"]


def fitted_factors(quantized, exact, rescalings):
    """Output factors (recorded, as the weights show them) by layer: weights are q = f * out / in, up to rounding."""
    of_layer = {op.layer: op for op in exact.ops if op.kernel is not None}
    one = Rescaling(np.ones(1), np.zeros(1))
    for op in quantized.ops:
        other = of_layer.get(op.layer)
        if op.kernel is None or other is None or op.output != other.output or op.kernel.shape != other.kernel.shape:
            continue
        source, result = (rescalings.get(name, one).factor for name in (other.inputs[0], op.output))
        channels = op.kernel.shape[-2]
        expected = replace(other, kernel=other.kernel / np.broadcast_to(source, channels)[:, None]).columns()
        live = np.abs(expected).max(0) > 0
        fitted = (op.columns() * expected).sum(0)[live] / (expected**2).sum(0)[live]
        yield op.layer, np.broadcast_to(result, live.shape)[live], fitted


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "recipe", [INT8, replace(INT8, name="per-tensor", granularity="per-tensor")], ids=lambda r: r.name
)
def test_recorded_factors_are_those_that_the_weights_of_the_file_show(name, recipe):
    graph, preprocess = demo_graph(name)
    description = ModelDescription(name, Answers(), preprocess)
    quantization = quantize(graph, preprocess, demo_calibration(), recipe)
    quantized = encode_int8(quantization.graph, quantization.preprocess, description, "tflite").data
    exact = encode_float(graph, description, "tflite", "float32").data
    graphs = [read_file_graph(data, "tflite", "m") for data in (quantized, exact)]
    layers = list(fitted_factors(*graphs, quantization.rescalings))
    assert len(layers) > 25
    rescaled = [layer for layer, recorded, _ in layers if np.ptp(recorded) > 0.01]
    assert len(rescaled) > (0 if recipe is INT8 and name == "mobilenet_v2" else 5)
    for layer, recorded, fitted in layers:
        # Rounding averages out over a channel's weights, of which some have few.
        np.testing.assert_allclose(fitted, recorded, rtol=0.1, err_msg=layer)
        assert np.median(np.abs(fitted / recorded - 1)) < 0.01, layer


@pytest.mark.parametrize("kind", FORMATS)
def test_a_bundle_records_what_quantization_did_to_channels(bundle, digits, kind):
    graph, preprocess = demo_graph("mobilenet_v3_small")
    calibration = load_calibration(digits / "calibration", graph.shapes[graph.input][1:3], preprocess, count=60)
    quantization = quantize(graph, preprocess, calibration, INT8)
    recorded = open_golden(bundle)[1].rescalings
    assert list(recorded) == ["int8"]
    assert recorded["int8"].keys() == quantization.rescalings.keys()
    for name, rescaling in quantization.rescalings.items():
        for part in ("factor", "shift"):
            given = getattr(recorded["int8"][name], part)
            np.testing.assert_allclose(given, np.broadcast_to(getattr(rescaling, part), given.shape), rtol=1e-6)
    rows = diagnose(*files_of(bundle, kind), digits / "held-back", count=12).layers
    assert np.median([row.error_alone for row in rows]) == pytest.approx(ROUNDING, rel=0.2)
    assert any(row.factors[1] > 1.5 * row.factors[0] for row in rows)


def test_a_file_is_found_in_the_bundle_of_the_reference_and_nowhere_else(bundle, digits, tmp_path):
    quantized, exact = files_of(bundle, "tflite")
    lone, lone_exact = (Path(shutil.copy(path, tmp_path)) for path in (quantized, exact))
    inside = diagnose(quantized, exact, digits / "held-back", count=2)
    assert replace(diagnose(lone, exact, digits / "held-back", count=2), file=inside.file) == inside
    with pytest.raises(InputError, match=rf"{lone.name}.*golden\.npz"):
        diagnose(lone, lone_exact, digits / "held-back", count=2)
    changed = Path(shutil.copytree(bundle, tmp_path / "changed"))
    (changed / "golden.npz").write_bytes((changed / "golden.npz").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"golden\.npz"):
        diagnose(changed / quantized.name, exact, digits / "held-back", count=2)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table(bundle, digits, columns):
    quantized, exact = files_of(bundle, "tflite")
    args = ("inspect", quantized, "--reference", exact, "--data", digits / "held-back", "--count", 3, "--layers", 7)
    result = run(*args, columns=columns)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "3 images" in lines[0]
    assert "100.0 %" in lines[0]
    assert lines[2].split() == ["layer", "effect", "alone", "run", "error", "sat", "%", "w", "ch"]
    assert max(map(len, lines[1:])) <= columns
    assert "7 of" in result.stdout


def test_json_has_every_layer(bundle, digits):
    quantized, exact = files_of(bundle, "onnx")
    result = run("inspect", quantized, "--reference", exact, "--data", digits / "held-back", "--count", 2, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["images"] == 2
    effects = [row["effect"] for row in said["layers"]]
    assert len(effects) > 60
    assert effects == sorted(effects, reverse=True)
    assert {"sqnr", "sqnr_alone", "error", "saturated_high", "weight_spread", "channel_spread"} < set(said["layers"][0])


def test_options_that_belong_together(bundle):
    quantized, exact = files_of(bundle, "onnx")
    result = run("inspect", quantized, "--reference", exact)
    assert (result.exit_code, "--reference" in result.stderr, "--data" in result.stderr) == (2, True, True)
    result = run("inspect", quantized, "--reference", exact, "--data", "absent", "--layers", -1)
    assert (result.exit_code, "--layers" in result.stderr) == (2, True)  # before anything is compared
